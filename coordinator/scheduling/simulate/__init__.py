"""What a policy would have done with a trace: the service's own decisions over a heap of events, nothing else."""
