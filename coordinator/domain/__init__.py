"""Records and transition tables: what the coordinator knows, without how it is kept."""
