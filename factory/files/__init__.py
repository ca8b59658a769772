"""Files in and out, every format once: `open` (which reader), `records` (whole rows to label), `write` (labelled rows).

A reader is one file (`delimited`, `jsonl`, `document`, `parquet`, `plain`, `dataset`, `inline`) that turns `ReadOptions` into an
`OpenSource`; `columns` says which of its columns mean what, `rows` makes texts with gold of them, and `source` is what a pipeline
says.
"""
