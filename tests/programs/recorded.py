"""The programs in the recorded answers of the ready pipelines."""

from __future__ import annotations

import json
from pathlib import Path


def recorded_programs(pipelines: Path) -> list[tuple[str, str]]:
    """Every program in the recorded answers of the ready pipelines: `(pipeline, source)`."""
    from factory import prompts

    found = []
    for path in sorted(pipelines.glob("*/answers.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            if not str(row.get("prompt", "")).startswith("author_program"):
                continue
            try:
                found.append((path.parent.name, prompts.load(row["prompt"]).parse(row["answer"])))
            except prompts.ParseFailure:
                continue
    return found
