"""What the services need from the outside, as Protocols with numbered guarantees."""
