"""One size case in a process of its own, so that its peak memory is its own: `python labels_size.py JSON`; prints JSON."""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

LFS, CLASSES = 30, 4


def make(path: Path, n: int, distinct: float | None) -> None:
    """A warehouse with n texts and the votes of 30 functions, coverage .05 to .4, accuracy .55 to .9, 4 classes.

    `distinct`: None draws every row by itself; else rows repeat so many kinds of row (a share of n).
    """
    import pyarrow as pa

    from factory.warehouse.file import Warehouse, insert

    rng = np.random.default_rng(0)
    kinds = n if distinct is None else int(n * distinct)
    kind = None if distinct is None else rng.integers(0, kinds, n)
    truth = rng.choice(CLASSES, size=kinds, p=[0.4, 0.3, 0.2, 0.1]).astype(np.int8)
    warehouse = Warehouse.open(path)
    with warehouse.lease() as db:
        for lf, (coverage, accuracy) in enumerate(
            zip(np.linspace(0.05, 0.4, LFS), np.linspace(0.55, 0.9, LFS), strict=True)
        ):
            said = np.full(kinds, -1, np.int8)
            fires = np.flatnonzero(rng.random(kinds, dtype=np.float32) < coverage)
            right = rng.random(len(fires), dtype=np.float32) < accuracy
            said[fires] = np.where(right, truth[fires], rng.integers(0, CLASSES, len(fires)))
            if kind is not None:
                said = said[kind]
            rows = np.flatnonzero(said >= 0)
            insert(
                db,
                "votes",
                pa.table(
                    {
                        "program_no": np.full(len(rows), lf + 1, np.int32),
                        "text_no": (rows + 1).astype(np.int32),
                        "vote": said[rows].astype(np.int32),
                    }
                ),
            )


def furnish(path: Path, n: int) -> None:
    """What `denoise` needs beside the votes: a task with four labels, n train texts, and the programs."""
    from factory.task import Label, TaskCard, register
    from factory.warehouse.file import Warehouse

    warehouse = Warehouse.open(path)
    labels = tuple(Label(name=f"label {number}", description=f"number {number}") for number in range(CLASSES))
    register(warehouse, TaskCard(name="size", kind="single", text="a text", labels=labels))
    with warehouse.lease() as db:
        db.execute(
            "INSERT INTO sources (source_no, split, path, format, columns, content_digest, n_rows, n_bad)"
            " VALUES (0, 'train', 'x', 'csv', '{}', '', ?, 0)",
            [n],
        )
        db.execute(
            "INSERT INTO texts (text_no, content_hash, text, origin)"
            " SELECT i, unhex(md5(i::VARCHAR)), 'text ' || i, 'corpus' FROM range(1, ?) t(i)",
            [n + 1],
        )
        db.execute(
            "INSERT INTO occurrences SELECT 0, i, i, 'train', true, NULL FROM range(1, ?) t(i)",
            [n + 1],
        )
        db.execute(
            "INSERT INTO programs (program_no, program_key, name, kind, origin, source, state)"
            " SELECT i, 'k' || i, 'p' || i, 'python', 'hand', '', 'accepted' FROM range(1, ?) t(i)",
            [LFS + 1],
        )


def denoised(path: Path, model: str) -> dict[str, Any]:
    """The whole stage, from votes in the warehouse to probabilities in it: by majority vote, Snorkel and `model`."""
    import snorkel.labeling.model  # noqa: F401

    from factory.denoise.stage import denoise
    from factory.warehouse.file import Warehouse

    warehouse = Warehouse.open(path)
    began = time.perf_counter()
    result = denoise(warehouse, model=model, encoder=None)
    seconds = time.perf_counter() - began
    return {"total_s": seconds, "rows": warehouse.scalar("SELECT count(*) FROM soft_labels"), "facts": result.did}


def ours(path: Path, n: int, model: str, keep: str | None) -> dict[str, Any]:
    """Read the votes out of DuckDB, fit, and predict every text; with `keep`, save the first million probabilities there."""
    from factory.denoise.models.table import fit_label_model
    from factory.warehouse.file import Warehouse
    from factory.warehouse.tables.texts import Texts
    from factory.warehouse.tables.votes import read_votes

    if model == "snorkel":  # as in `library`: seconds are for the work, not for importing
        import snorkel.labeling.model  # noqa: F401
    began = time.perf_counter()
    texts = Texts(np.arange(1, n + 1, dtype=np.int32), np.ones(n, bool))
    programs = range(1, LFS + 1)
    votes = read_votes(Warehouse.open(path), texts, programs, classes=CLASSES, class_of={c: c for c in range(CLASSES)})
    read = time.perf_counter()
    fitted = fit_label_model(model, votes, classes=CLASSES)
    fit = time.perf_counter()
    probs = fitted.predict_proba(votes)
    done = time.perf_counter()
    if keep:
        np.save(keep, probs[:1_000_000])
    found = {"read_s": read - began, "fit_s": fit - read, "predict_s": done - fit, "total_s": done - began}
    return found | {"rounds": fitted.params().get("rounds")}


def shares(path: Path, n: int) -> dict[str, Any]:
    """How many rows have a pattern of their own, and how many kinds of row there are, as shares of n."""
    from factory.warehouse.file import Warehouse
    from factory.warehouse.tables.texts import Texts
    from factory.warehouse.tables.votes import read_votes

    texts = Texts(np.arange(1, n + 1, dtype=np.int32), np.ones(n, bool))
    programs = range(1, LFS + 1)
    votes = read_votes(Warehouse.open(path), texts, programs, classes=CLASSES, class_of={c: c for c in range(CLASSES)})
    kinds, _ = votes.patterns()
    assert kinds.counts is not None
    return {
        "own_pattern_share": float((kinds.counts == 1).sum()) / n,
        "distinct_share": len(kinds) / n,
        "votes": len(votes.codes),
    }


def library(path: Path, n: int, keep: str | None) -> dict[str, Any]:
    """The same by `snorkel.labeling.model.LabelModel` on a dense matrix of the first n texts, made by DuckDB."""
    import duckdb
    from snorkel.labeling.model import LabelModel

    began = time.perf_counter()
    matrix = np.full((n, LFS), -1, np.int64)
    with duckdb.connect(str(path), read_only=True) as db:
        for lf in range(LFS):
            found = db.execute(
                "SELECT text_no, vote FROM votes WHERE program_no = ? AND text_no <= ?", [lf + 1, n]
            ).fetchnumpy()
            matrix[found["text_no"] - 1, lf] = found["vote"]
    read = time.perf_counter()
    model = LabelModel(cardinality=CLASSES, verbose=False)
    model.fit(matrix, seed=0, progress_bar=False)
    fit = time.perf_counter()
    probs = model.predict_proba(matrix)
    done = time.perf_counter()
    if keep:
        np.save(keep, probs)
    return {"read_s": read - began, "fit_s": fit - read, "predict_s": done - fit, "total_s": done - began}


def run(task: dict[str, Any]) -> dict[str, Any]:
    """One of the above by name, with the process's peak memory in GB (DuckDB's is part of it)."""
    path = Path(task["path"])
    if task["do"] == "make":
        make(path, task["n"], task.get("distinct"))
        found: dict[str, Any] = {}
    elif task["do"] == "furnish":
        furnish(path, task["n"])
        found = {}
    elif task["do"] == "denoise":
        found = denoised(path, task["model"])
    elif task["do"] == "ours":
        found = ours(path, task["n"], task["model"], task.get("keep"))
    elif task["do"] == "shares":
        found = shares(path, task["n"])
    else:
        found = library(path, task["n"], task.get("keep"))
    return found | {"peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6}


if __name__ == "__main__":
    print(json.dumps(run(json.loads(sys.argv[1]))))
