"""The commands of `factory`, a module for each group: the line, models, programs, and looking into a run."""
