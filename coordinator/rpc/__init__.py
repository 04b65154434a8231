"""The node link at the coordinator: gRPC over mTLS.  The only package that knows a node's socket."""
