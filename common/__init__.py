"""What coordinator and node share, and nothing else."""
