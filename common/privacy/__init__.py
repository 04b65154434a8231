"""What a node does to an update before it leaves: quantise, mask; and the words both sides agree on.  No I/O."""
