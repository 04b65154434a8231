"""The coordinator's ports, kept: databases, blob stores, signing keys."""
