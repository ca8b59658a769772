"""One DuckDB file that holds everything: its leases and migrations, and a module for each group of tables."""
