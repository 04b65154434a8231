"""The ``hansa`` command: data on stdout, talk on stderr, one exit code a kind of failure."""
