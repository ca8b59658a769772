"""One module per table: what is asked of it and written to it stands there, and nowhere else."""
