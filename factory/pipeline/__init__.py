"""A YAML file -> checked steps -> a run: load, standard line, run, lock, preview, schema, notebook."""
