"""What makes an update sound, which updates belong together, and their weighted mean, column by column."""
