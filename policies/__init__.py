"""Cedar policies and the one call that judges them, wrapped to fail closed."""
