"""The node's side of a masked round, as values: what it will say, and what it refuses to say."""
