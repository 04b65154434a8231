"""The life of a task at the node, a file a step; and what people do at the node."""
