"""The outside: SQLite, files, gRPC."""
