"""Label models, one file each."""
