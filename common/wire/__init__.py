"""The node link's messages and methods."""
