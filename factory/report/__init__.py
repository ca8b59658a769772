"""The report's pages: facts read from the warehouse, pictures, verdict."""
