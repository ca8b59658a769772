"""Text in: readers, splits, duplicates; retrieval over the corpus; data out."""
