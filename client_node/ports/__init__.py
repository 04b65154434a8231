"""What the services of the node need from outside, as Protocols."""
