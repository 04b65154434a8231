"""Named like the platform's own, too."""

OWNER = "tenant's child"
