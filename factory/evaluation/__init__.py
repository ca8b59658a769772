"""Metrics with intervals, baselines, and the report. `stage` alone opens the gold of `test` and `reference`."""
