"""The node agent: keeps the data, runs tenants' code in children, is the last judge."""
