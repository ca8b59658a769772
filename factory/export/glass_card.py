"""The card of an exported glass box: what it is, who votes in it, how to run it without the factory's dependencies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from factory.export.card import in_words, label_line, plain
from factory.export.spec import ExportSpec
from factory.predict.glass_box import GlassBox

_MEMBERS = {
    "anchored": "a label model of the programs' votes, by EM over all texts in which anchors count",
    "anchors_only": "a label model of the programs' votes, counted on the anchors alone",
    "student_of_anchored": "a student that reads the text, taught by the first",
    "student_of_anchors_only": "a student that reads the text, taught by the second",
    "logistic": "a logistic regression on votes and text, taught by the anchors alone",
}
_USE = """```sh
python -m venv box && . box/bin/activate
pip install -r requirements.txt
pip install --no-deps label-factory
factory predict . texts.csv --why --out answers.jsonl
echo "a text" | factory predict . - --why
```

```python
from factory import load_export

box = load_export(".")
print(box.predict(["a text"]), box.why(["a text"]))
```"""


def glass_card(spec: ExportSpec, box: GlassBox, parity: Mapping[str, Any], needed: Mapping[str, str]) -> str:
    """The card as Markdown; the same words for the same export."""
    many = "any number of these labels" if spec.multi else "exactly one of these labels"
    facts = box.facts
    of = facts.get("anchors", 0)
    agreement = facts.get("agreement", {}).get("mixture")
    agrees = "" if agreement is None else f" It says what the anchor says for {agreement:.0%} of them, unseen."
    python = any(program.kind == "python" for program in box.programs)
    listed = ", ".join(f"{name} {oldest} or later" for name, oldest in needed.items())
    parts = [
        "---\nlibrary_name: label-factory\npipeline_tag: text-classification\ntags: [label-factory, programs]\n---",
        f"# {plain(spec.name)}",
        f"A glass box: programs and small models that answer together and say why. It gives {plain(spec.text)} {many}:",
        "\n".join(label_line(number, name, words, spec) for number, (name, words) in enumerate(spec.labels.items())),
        "## Who answers",
        f"Five members, weighed by how likely they find {of} anchors (texts that a model or a person labelled) which they had not"
        f" seen.{agrees} That is agreement with the annotator, not accuracy.",
        "\n".join(f"- {name}: {words}; weight {_weight(box, name)}" for name, words in _MEMBERS.items()),
        f"Temperature {_mean([part.temperature for part in box.parts])}, fitted on the same anchors, is applied to the mixture.",
        "The programs, and what a vote multiplies the odds of its label by (against the mean of the others):",
        "| program | form | votes |\n|---|---|---|\n" + "\n".join(_row(box, at) for at in range(len(box.programs))),
        "They lie in `programs/`: rules are data, one rule on each line; Python is the source as it was accepted.",
        "## What it learned from",
        "\n".join(f"- {plain(name)}: {in_words(value)}" for name, value in spec.facts.items())
        or "- nothing is recorded",
        "## Use",
        f"It needs label-factory without its dependencies, and what `requirements.txt` names ({listed}): no torch, no"
        " transformers, no snorkel, no DSPy. `factory serve` needs fastapi and uvicorn too, Parquet files pyarrow, `.zst` files"
        " zstandard.",
        _USE,
        "`--why` adds a sentence (`why`) and its figures (`reasons`) to each answer: the programs that fired, on which words,"
        " what each vote multiplies the odds by, and what the text itself says.",
        "## Limits",
        "\n".join(f"- {line}" for line in _limits(spec, box, python)),
        "## Checked at export",
        "\n".join(f"- {name.replace('_', ' ')}: {value}" for name, value in sorted(parity.items())),
        "`manifest.json` holds the SHA-256 of every file: it shows damage. It is not signed, so whoever may write to this folder"
        " can change a file and the manifest with it. There is no pickle.",
    ]
    return "\n\n".join(parts) + "\n"


def _weight(box: GlassBox, name: str) -> str:
    return _mean([part.weights.get(name, 0.0) for part in box.parts])


def _mean(values: list[float]) -> str:
    return f"{np.mean(values):.2f}"


def _row(box: GlassBox, at: int) -> str:
    """A program, and for each label that its votes speak for what they multiply its odds by."""
    program, told = box.programs[at], {}
    for part in box.parts:
        if at not in part.columns:
            continue
        column = list(part.columns).index(at)
        for place, label in enumerate(part.classes):
            added = part.added(column, place)
            odds = np.exp(added[place] - np.delete(added, place).mean())
            told[label if part.label is None else f"{label} ({part.label})"] = float(odds)
    votes = ", ".join(f"{plain(label)} x{odds:.2g}" for label, odds in told.items() if odds >= 1.05)
    return f"| {plain(program.name)} | {program.kind} | {votes or 'next to nothing'} |"


def _limits(spec: ExportSpec, box: GlassBox, python: bool) -> list[str]:
    lines = [
        "It repeats the mistakes of its programs and of the anchors; check a sample before you trust it on other data."
    ]
    if spec.never_seen:
        lines.append(f"The labels {', '.join(plain(name) for name in spec.never_seen)} are never answered.")
    if python:
        lines.append(
            "Python programs run in a sandbox that the kernel seals, on Linux. Elsewhere they run only with `--sandbox process`:"
            " a process of their own, held by a static check and limits on time. Rules need nothing."
        )
    lines.append("A text unlike the training texts still gets a label.")
    return lines
