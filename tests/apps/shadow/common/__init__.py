"""The app's own package, by a name that the platform uses too."""

OWNER = "tenant"
