"""May this job run, and where: every reason against it, collected at once."""
