"""Ray, and nothing else of it anywhere."""
