"""The two serving protocols as functions of values: bytes in, arrays; arrays in, bytes."""
