"""`discover`: a task card out of texts that nobody has labelled."""

from __future__ import annotations

import hashlib
import heapq
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from factory.corpus.init import Opened, open_file, task_name
from factory.corpus.init_yaml import pipeline_text
from factory.discovery.asking import AT_ONCE, Rounds
from factory.discovery.batches import neighbourhoods
from factory.discovery.clusters import MIDDLE, beside, clusters
from factory.discovery.write import Discovery, refuse_to_lose, write_all
from factory.errors import InputError
from factory.files.rows import Cleaner, Row
from factory.result import Progress, no_progress

if TYPE_CHECKING:
    from factory.encoders.base import Encoder
    from factory.llm.budget import Budget
    from factory.llm.engines.base import Engine

STAGE = "discover"
FEWEST = 20
"""Different texts that a discovery needs."""


@dataclass(frozen=True)
class Wanted:
    """What is to be found, and how.

    Attributes:
        text: What a text is, as a phrase.
        purpose: What the labels are to tell.
        labels: How many labels; None finds out.
        by: `batches`: the model reads texts in batches of neighbours and proposes labels. `embeddings`: clusters, each named by
            the model.
        texts: How many texts of the file are looked at, drawn by their content: the same ones in any order of the file.
        batch: How many of them one request shows.
        check: How many of them are kept to be labelled twice by what was found; 0 leaves that out, and revising with it.
        encoder: What puts neighbours together.
        seed: Of what is drawn.
    """

    text: str = "a text"
    purpose: str = "what a text is about, or what its writer wants"
    labels: int | None = None
    by: Literal["batches", "embeddings"] = "batches"
    texts: int = 1000
    batch: int = 40
    check: int = 120
    encoder: str | Mapping[str, Any] = "auto"
    seed: int = 0


def discover(
    file: Path, out: Path, engine: Engine, wanted: Wanted, *, engine_told: Mapping[str, Any], text: str | None = None,
    told: dict[str, Any] | None = None, budget: Budget | None = None, progress: Progress = no_progress,
) -> dict[str, Any]:  # fmt: skip
    """Find the labels of a file's texts; write `task.yaml`, `pipeline.yaml`, `texts.csv` and `discovery.md`.

    The model's answers lie in `discover.duckdb` in the same folder: a run that ended early goes on where it was.

    Args:
        file: Texts, in any form that `ingest` reads; nothing but the column of the texts is read.
        out: Folder for what is written.
        engine: Whom to ask.
        wanted: What is to be found.
        engine_told: The engine as the pipeline is to have it.
        text: The column of the texts; guessed otherwise.
        told: More of what a source may say: `format`, `encoding`, `delimiter`, `columns`.
        budget: Kept before it is passed.
        progress: Called with (done, total, what).

    Returns:
        `task`, `pipeline`, `texts` and `page` (paths), `labels`, `found` (figures), `unsure` and `says` (lines for a person).

    Raises:
        InputError: The file cannot be read, has too few texts, or a file is there already.
        Pending, BudgetError, Unanswered: Answers are missing; what came is stored.
    """
    from factory.encoders.encoder import load_encoder
    from factory.llm import Asker
    from factory.warehouse.file import Warehouse

    refuse_to_lose(out)
    opened = open_file(file, text, None, (), dict(told or {}))
    texts = _drawn(opened, wanted.texts, wanted.seed)
    if len(texts) < FEWEST:
        words = f"{len(texts)} different texts are too few to find labels in"
        raise InputError(words, where=file, fix=f"Give {FEWEST} or more; some 1,000 are a good start")
    asker = Asker(Warehouse.open(out / "discover.duckdb"), engine, STAGE, budget, progress)
    rounds = Rounds(asker, engine, texts, wanted.text, wanted.purpose, wanted.labels)
    found = _discover(rounds, load_encoder(wanted.encoder).exact, wanted, progress)
    name = task_name(file)
    line = pipeline_text(
        name, os.path.relpath(file.absolute(), out.absolute()), opened.spec, opened.columns, engine_told
    )
    written = write_all(found, out, name, line, kind_of_text=wanted.text, purpose=wanted.purpose, asked=wanted.labels)
    return {**written, "says": [*opened.says, *asker.notes, *found.says, *found.changed]}


def _discover(rounds: Rounds, encoder: Encoder, wanted: Wanted, progress: Progress) -> Discovery:
    """The rounds, one after the other."""
    texts = rounds.texts
    fresh = tuple(range(min(wanted.check, len(texts) // 4)))
    rest = range(len(fresh), len(texts))
    vectors = encoder.encode([texts[at] for at in rest], progress)
    if wanted.by == "batches":
        batches = neighbourhoods(vectors, wanted.batch)
        proposals = rounds.propose([[rest[at] for at in batch] for batch in batches])
    else:
        groups = clusters(vectors, wanted.labels, wanted.seed)
        near = [[rest[at] for at in group] for group in beside(vectors, groups)]
        proposals = rounds.name([[rest[at] for at in group] for group in groups], MIDDLE, near)
    if not proposals:
        raise InputError(
            "the model's answers hold no label", fix="Try another model, or fewer texts at once: --batch 20"
        )
    described = encoder.encode([f"{one.name.replace('_', ' ')}: {one.meaning}" for one in proposals])
    joined = rounds.join(proposals, neighbourhoods(described, AT_ONCE))
    labels, check = list(joined.labels), None
    changed: list[str] = []
    if fresh:
        check = rounds.check(labels, fresh, wanted.batch, wanted.seed)
        labels, changed = rounds.revise(labels, check)
    labels = [label for label in labels if label.texts] or labels
    labels.sort(key=lambda label: -len(label.texts))
    return Discovery(
        tuple(labels), tuple(texts), fresh, len(proposals), joined, check, tuple(changed), tuple(rounds.says)
    )


def _drawn(opened: Opened, count: int, seed: int) -> list[str]:
    """Different texts of a file, drawn by their content: the `count` of the lowest hashes, in that order."""
    cleaner = Cleaner(opened.spec, opened.source, opened.columns, (), {}, "single")
    lowest: list[tuple[int, str]] = []
    held: set[int] = set()
    for batch in opened.source.batches(opened.columns.wanted):
        for row in cleaner.rows(batch):
            if not isinstance(row, Row):
                continue
            key = int.from_bytes(hashlib.sha256(f"{seed}\0{' '.join(row.text.split())}".encode()).digest()[:8], "big")
            if key in held or (len(lowest) == count and -lowest[0][0] < key):
                continue
            held.add(key)
            gone = heapq.heappushpop(lowest, (-key, row.text)) if len(lowest) == count else None
            if gone is None:
                heapq.heappush(lowest, (-key, row.text))
            else:
                held.discard(-gone[0])
    return [text for _, text in sorted(lowest, reverse=True)]
