"""The model writes and repairs label programs."""
