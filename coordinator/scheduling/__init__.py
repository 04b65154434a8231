"""Who may start now: one pure function over asks, leases and the slots of the nodes."""
