"""What the node allows: pure judgements over values."""
