"""The coordinator: schedules rounds, folds updates, versions and pushes models."""
