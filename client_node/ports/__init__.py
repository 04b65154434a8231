"""What the agent needs from the outside, as Protocols with numbered guarantees."""
