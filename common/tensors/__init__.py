"""Named tensors and bytes: reading what others wrote, with limits checked before anything is allocated."""
