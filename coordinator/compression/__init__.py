"""How a version's weights are made small, and what that costs."""
