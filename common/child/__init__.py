"""Everything that imports Flower; runs only in child processes, never beside keys, ledgers or credentials."""
