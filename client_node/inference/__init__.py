"""The inference process: runs tenants' graphs, and nothing else, in a sandbox of its own."""
