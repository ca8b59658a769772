"""The two files that `init` writes, as YAML with marks where a person must write."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from factory.files.columns import Columns
from factory.files.source import SourceSpec

_MODEL = '{kind: server, url: "http://127.0.0.1:8000/v1", model: MODEL}'


def card_text(name: str, labels: Sequence[str], multi: bool) -> str:
    """A task card."""
    rows = "".join(
        f"  - name: {scalar(label)}\n    description: TODO what a text with this label says or is about.\n"
        for label in labels
    )
    return (
        f"name: {scalar(name)}\nkind: {'multi' if multi else 'single'}\n"
        '# A phrase: "a comment that somebody left under a music video".\ntext: a text\n'
        "# What each label means, in one or two sentences that a stranger could label by.\n"
        f"labels:\n{rows}"
        '# How to decide hard cases. May be empty.\nguidelines: ""\n'
    )


def pipeline_text(
    name: str, path: str, spec: SourceSpec, columns: Columns, engine: Mapping[str, Any] | None = None
) -> str:
    """A pipeline. With gold in the file, its rows are training texts whose labels only the full-gold row reads.

    Args:
        name: Of the pipeline.
        path: Of the file, as the pipeline is to say it.
        spec: How it is read.
        columns: Of which the texts, and the gold if there is any.
        engine: Whom to ask; by default a server whose model a person must fill in.
    """
    told: dict[str, Any] = {"path": path, "text": columns.text[0]}
    told |= {"format": spec.format} if spec.format != "auto" else {}
    told |= {key: value for key in ("encoding", "delimiter") if (value := getattr(spec, key)) is not None}
    told |= {"columns": list(spec.columns)} if spec.columns is not None else {}
    told |= {"bad_limit": spec.bad_limit} if spec.bad_limit else {}
    gold = {**told, "label": columns.label}
    gold |= {"label_separator": spec.label_separator} if spec.label_separator else {}
    reference = f"  reference: {_flow(gold)}\n" if columns.label else ""
    more = f", label_separator: {scalar(spec.label_separator)}" if spec.label_separator else ""
    text = scalar(columns.text[0])
    return (
        f"name: {scalar(name)}\ntask: task.yaml\n"
        "# Any OpenAI-compatible server: your own (vllm serve MODEL --port 8000) or a hosted one (api_key_env: the variable\n"
        "# that holds its key). Without a server: {kind: transformers, model: MODEL} on a CPU, or `factory batch`.\n"
        f"engine: {_MODEL if engine is None else _one_line(engine)}\n"
        "data:\n"
        f"  train: {_flow(told)}\n{reference}"
        "  # Gold that people labelled: dev for choices, test for evaluation alone.\n"
        f"  # dev: {{path: dev.csv, text: {text}, label: label{more}}}\n"
        f"  # test: {{path: test.csv, text: {text}, label: label{more}}}\n"
        "# The steps: ingest, author, vote, synthesize, vote, denoise, distill, annotate (with test), evaluate, export,\n"
        "# report. A step's parameters are given by its name; `false` leaves it out. `steps: auto`, in place of all\n"
        "# that follows, decides round by round and under a budget what to buy from the model.\n"
        "steps:\n  author: {programs: 20}\n  # synthesize: false\n"
    )


def _flow(values: dict[str, Any]) -> str:
    """A mapping on one line."""
    return "{" + ", ".join(f"{key}: {_value(value)}" for key, value in values.items()) + "}"


def _one_line(values: Mapping[str, Any]) -> str:
    """A mapping of any depth on one line."""
    import yaml

    told = yaml.safe_dump(dict(values), default_flow_style=True, sort_keys=False, allow_unicode=True, width=1_000_000)
    return str(told).strip()


def _value(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(scalar, value))}]"
    return scalar(value) if isinstance(value, str) else str(value)


def scalar(value: str) -> str:
    """A YAML scalar on one line, quoted where it must be."""
    import yaml

    dumped = (
        yaml.safe_dump(value, default_style=None, allow_unicode=True, width=10_000).strip().removesuffix("...").strip()
    )
    plain = not re.search(r"[,\[\]{}\n\r\x85\u2028\u2029\t]|[:#]", value) and "\n" not in dumped
    if plain or (dumped[0] in "'\"" and "\n" not in dumped):
        return dumped
    return yaml.safe_dump(value, default_style='"', allow_unicode=True, width=10_000_000).strip()
