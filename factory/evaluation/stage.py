"""`store_gold` and `evaluate`. This module alone opens the gold file of `test` and `reference`."""

from __future__ import annotations

import json
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from factory.canonical import digest
from factory.errors import WarehouseError
from factory.result import Progress, StageResult, no_progress
from factory.task import current_card
from factory.warehouse import Warehouse, connect, insert, next_no

if TYPE_CHECKING:
    import duckdb

    from factory.evaluation.gold import Gold, HumanVotes
    from factory.evaluation.gold_students import Inputs
    from factory.evaluation.scoring import Scored
    from factory.evaluation.systems import Said, Shape

GOLD_FILE_SPLITS = ("test", "reference")
SLOW_STUDENTS = ("setfit", "finetune")
"""Students that take minutes to train: no label-equivalents curve of dozens of them."""
_MEMORY: weakref.WeakKeyDictionary[Warehouse, Any] = weakref.WeakKeyDictionary()
_VERSION = 1
"""Raised when figures are computed in another way, so that stored evaluations are computed anew."""


# Gold in ----------------------------------------------------------------------------------------------------------------
def store_gold(
    warehouse: Warehouse,
    sources: Mapping[str, Any],
    *,
    base: Path | None = None,
    progress: Progress = no_progress,
) -> StageResult:
    """Read the gold of `test` and `reference`, and published votes on `test`, into the gold file beside the warehouse.

    Run it after `ingest` of the same sources: gold belongs to texts that are in the warehouse. Reference gold of texts that
    are not kept in `train` is left out and counted. Splits that are not named lose their gold.

    Args:
        warehouse: Whose gold file is written.
        sources: As `factory.corpus.stage.ingest` takes them; only `test` and `reference` are read.
        base: What relative paths are relative to.
        progress: Called after each batch of rows.

    Raises:
        InputError: A label that is not on the card, an empty label in `test`, or a file that cannot be read.
    """
    from factory.corpus.source import load_specs
    from factory.evaluation import gold as store

    specs = {split: of for split, of in load_specs(sources).items() if split in GOLD_FILE_SPLITS}
    if not specs and not _has_gold(warehouse):
        return StageResult("store_gold", True, {}, ())
    world = _world(warehouse)
    did: dict[str, Any] = {}
    says: list[str] = []
    written = 0
    with _gold(warehouse) as db:
        named = {(split, spec.name) for split, of in specs.items() for spec in of}
        for split, path in db.execute("SELECT split, path FROM sources ORDER BY ALL").fetchall():
            if (split, path) not in named:
                store.forget_source(db, split, path)
                says.append(f"{path}: no longer gold of {split}")
                written += 1
        for split, of_split in specs.items():
            for spec in of_split:
                counts, lines = _store_source(warehouse, db, split, spec, base, world, progress)
                written += counts is not None
                says += lines
        for split, rows, unlabelled, elsewhere in db.execute(
            "SELECT split, sum(n_rows), sum(n_unlabelled), sum(n_elsewhere) FROM sources GROUP BY split ORDER BY split"
        ).fetchall():
            did[f"{split}_gold"] = int(rows)
            left = [f"{int(unlabelled)} without a label"] if unlabelled else []
            left += (
                [f"{int(elsewhere)} of texts that are not among the kept texts of the warehouse"] if elsewhere else []
            )
            says.append(f"gold of {split}: {int(rows):,} rows" + (f"; left out: {', '.join(left)}" if left else ""))
    return StageResult("store_gold", written == 0, did, tuple(says))


def _store_source(
    warehouse: Warehouse,
    db: duckdb.DuckDBPyConnection,
    split: str,
    spec: Any,
    base: Path | None,
    world: str,
    progress: Progress,
) -> tuple[dict[str, int] | None, list[str]]:
    """Read one source's gold, unless it is held already. Returns what was written (None: nothing) and lines to say."""
    from factory.corpus.arrivals import drawn_per_label, usable_rows
    from factory.corpus.hints import file_state
    from factory.corpus.readers import open_source
    from factory.corpus.rows import Cleaner
    from factory.corpus.source import choose_columns
    from factory.evaluation.gold import gold_digest, write_source

    card = current_card(warehouse)
    numbers = dict(warehouse.query("SELECT name, label_no FROM labels WHERE active ORDER BY label_no"))
    state = file_state(spec.located(base), spec, [split, card.kind, list(card.fields), numbers, world])
    known = db.execute("SELECT state FROM sources WHERE split = ? AND path = ?", [split, spec.name]).fetchone()
    if known is not None and state is not None and known[0] == state:
        return None, []
    _, source = open_source(spec, base)
    columns = choose_columns(spec, source.columns, card.fields, gold=True, votes=split == "test")
    vote_numbers = [numbers.get(spec.renamed.get(name, name), -1) for name in source.vote_labels]
    if columns.votes is not None and not vote_numbers:
        columns = replace(columns, votes=None)
    cleaner = Cleaner(
        spec, columns, card.fields, numbers, card.kind, split == "reference", gold_optional=split == "reference"
    )
    bad: list[Any] = []
    batches = usable_rows(source, cleaner, bad=bad, left=[], progress=progress, what=f"{split}: gold read")
    if spec.per_label is not None:
        batches = drawn_per_label(batches, spec.per_label, spec.sample_seed)
    rows = [replace(row, text="", fields=None) for batch in batches for row in batch]
    held = "test" if split == "test" else "train"
    text_nos = dict(
        warehouse.query(
            "SELECT content_hash, text_no FROM texts WHERE text_no IN (SELECT text_no FROM split_texts WHERE split = ?)",
            [held],
        )
    )
    before = gold_digest(db)
    counts = write_source(db, split, spec.name, state or "", rows, text_nos, vote_numbers)
    says = [line for line in columns.guessed if "gold is read" in line]
    if bad:
        says.append(
            f"{spec.name}: the gold of {len(bad)} rows cannot be used (first: line {bad[0].row_no}, {bad[0].reason})"
        )
    if gold_digest(db) == before:
        return None, says  # the file was touched and says the same
    return counts, says


def _world(warehouse: Warehouse) -> str:
    """Changes whenever text numbers or kept train texts may have."""
    rows = warehouse.query(
        "SELECT source_no, split, path, content_digest, ingested_at::VARCHAR FROM sources ORDER BY source_no"
    )
    return digest([[str(value) for value in row] for row in rows])


def _has_gold(warehouse: Warehouse) -> bool:
    return warehouse in _MEMORY if warehouse.gold_path is None else warehouse.gold_path.exists()


@contextmanager
def _gold(warehouse: Warehouse) -> Iterator[duckdb.DuckDBPyConnection]:
    """The gold file in one transaction (for a warehouse in memory, a second one in memory)."""
    import duckdb

    from factory.evaluation.gold import SCHEMA

    path = warehouse.gold_path
    if path is None:
        if warehouse not in _MEMORY:
            _MEMORY[warehouse] = connect(":memory:")
        db = _MEMORY[warehouse]
    else:
        try:
            db = connect(str(path))
        except duckdb.Error as error:
            raise WarehouseError(
                f"the gold file cannot be opened ({' '.join(str(error).split())[:200]})",
                where=path,
                fix="Wait and run again",
            ) from error
    try:
        db.execute("BEGIN")
        try:
            db.execute(SCHEMA)
            yield db
        except BaseException:
            db.execute("ROLLBACK")
            raise
        db.execute("COMMIT")
    finally:
        if path is not None:
            db.close()


# Scores -----------------------------------------------------------------------------------------------------------------
def evaluate(
    warehouse: Warehouse,
    *,
    positive_label: str | None = None,
    label_equivalents: bool = True,
    equivalents_draws: int = 10,
    draws: int = 2000,
    seed: int = 0,
    progress: Progress = no_progress,
) -> StageResult:
    """Score every system that exists on the test split, as published and on its distinct texts.

    Systems: every trained student by its name; every stored label model (`majority`, `snorkel`, ...); `teacher`; `human_lfs`
    (published votes, majority, WRENCH's row-index tie-break) and `human_lfs_content_ties` (ours); `dev_only` and `full_gold`
    (the student's recipe on gold alone). Rules: a text that no program covers gets what `denoise` was told (`uncovered`), ties
    go by the text's content hash, an unreadable answer of the teacher is wrong, and texts the teacher was never asked about are
    not scored for it.

    Args:
        warehouse: What to evaluate.
        positive_label: The class whose F1 is the task's published metric (spam in SMS).
        label_equivalents: Whether to find out how many random gold texts the student is worth (needs `reference`).
        equivalents_draws: Random draws for each number of gold texts.
        draws: Resamples of the bootstrap.
        seed: Of resampling and draws.
        progress: Called with (done, total, what).

    Returns:
        `did`: the summary's systems, and how often test was evaluated.

    Raises:
        InputError: `positive_label` is not on the card.
    """
    card = current_card(warehouse)
    if positive_label is not None and positive_label not in card.label_names:
        from factory.errors import InputError

        raise InputError(
            f"`positive_label: {positive_label}` is not on the card", fix=f"Use one of {', '.join(card.label_names)}"
        )
    if not _has_gold(warehouse):
        return StageResult("evaluate", True, {}, ("there is no test gold, so nothing is evaluated",))
    config = {
        "positive": positive_label, "equivalents": label_equivalents, "equivalents_draws": equivalents_draws, "draws": draws,
        "seed": seed, "version": _VERSION, "kind": card.kind,
    }  # fmt: skip
    with _gold(warehouse) as db:
        key = _key(warehouse, db, config)
        latest = warehouse.query("SELECT key FROM evaluations ORDER BY evaluation_no DESC LIMIT 1")
        if latest and latest[0][0] == key:
            found = summary(warehouse) or {}
            return StageResult("evaluate", True, _did(warehouse, found))
        scored, extra = _score_all(warehouse, db, config, progress)
    if not scored:
        return StageResult(
            "evaluate", True, {}, ("test has no gold rows, or there is no system yet: nothing is evaluated",)
        )
    _store(warehouse, key, scored, extra)
    found = summary(warehouse) or {}
    from factory.evaluation.agreement import dev_agreement

    agreement = dev_agreement(warehouse)
    warnings = (agreement.warning,) if agreement is not None and agreement.warning else ()
    return StageResult("evaluate", False, _did(warehouse, found), (*_lines(found), *warnings))


def summary(warehouse: Warehouse) -> dict[str, Any] | None:
    """The newest evaluation, or None: `{split, n, systems: {NAME: {accuracy, macro_f1, ci95, metrics, coverage, n_scored}}}`.

    Also `distinct` (the same on the distinct texts), `label_equivalents`, and `evaluations`: how often test was evaluated.
    """
    rows = warehouse.query(
        """SELECT system, variant, n, n_scored, coverage, metrics::VARCHAR, detail::VARCHAR FROM evaluations
           WHERE evaluation_no = (SELECT max(evaluation_no) FROM evaluations) ORDER BY system, variant"""
    )
    if not rows:
        return None
    out: dict[str, Any] = {"split": "test", "n": 0, "systems": {}, "distinct": {}}
    for system, variant, n, n_scored, coverage, metrics_json, detail_json in rows:
        metrics = json.loads(metrics_json)
        if system == "label_equivalents":
            out["label_equivalents"] = metrics
            continue
        entry = {
            "accuracy": metrics.get("accuracy"), "macro_f1": metrics.get("macro_f1"), "ci95": metrics.get("ci95"),
            "metrics": metrics, "coverage": coverage, "n_scored": n_scored,
        }  # fmt: skip
        versus = (json.loads(detail_json) if detail_json else {}).get("versus_student")
        if versus:
            entry["versus_student"] = versus
        if variant == "published":
            out["n"] = n
            out["systems"][system] = entry
        else:
            out["distinct"][system] = {**entry, "n": n}
    out["evaluations"] = warehouse.scalar("SELECT count(DISTINCT evaluation_no) FROM evaluations")
    return out


def _key(warehouse: Warehouse, db: duckdb.DuckDBPyConnection, config: Mapping[str, Any]) -> str:
    from factory.evaluation.gold import gold_digest
    from factory.evaluation.systems import systems_digest

    return digest([dict(config), systems_digest(warehouse), gold_digest(db)])


def _score_all(
    warehouse: Warehouse, db: duckdb.DuckDBPyConnection, config: Mapping[str, Any], progress: Progress
) -> tuple[list[Scored], dict[str, Any] | None]:
    import numpy as np

    from factory.evaluation.gold import read_gold, read_human_votes
    from factory.evaluation.gold_students import Inputs
    from factory.evaluation.scoring import DISTINCT, PUBLISHED, compare, score_system
    from factory.evaluation.systems import Shape, label_model_systems, student_systems, teacher_system

    labels = warehouse.query("SELECT name, active FROM labels ORDER BY label_no")
    shape = Shape(
        [name for name, _ in labels], np.array([active for _, active in labels], bool), config["kind"] == "multi"
    )
    gold = read_gold(db, "test", len(labels))
    if not len(gold):
        return [], None
    hashes = _hashes(warehouse, gold)
    systems: dict[str, Said] = {}
    inputs = Inputs(warehouse, db)
    systems |= student_systems(
        warehouse, gold.texts, hashes, shape, lambda encoder: inputs.of(encoder, gold.texts, progress), progress
    )
    for name, said in label_model_systems(warehouse, gold.texts, hashes, shape).items():
        systems.setdefault(name, said)
    systems |= teacher_system(warehouse, gold.texts, shape)
    human = None if shape.multi else read_human_votes(db, gold)
    if human is not None:
        systems |= _human(human, hashes, shape)
    more, extra = _gold_systems(warehouse, db, inputs, gold, hashes, shape, systems.get("student"), config, progress)
    systems |= more
    every, distinct = np.arange(len(gold)), gold.distinct()
    scored: list[Scored] = []
    student = systems.get("student")
    for name, said in systems.items():
        for variant, rows in ((PUBLISHED, every), (DISTINCT, distinct)):
            row = score_system(
                name, variant, gold, rows, said, shape,
                positive=config["positive"], draws=config["draws"], seed=config["seed"],
            )  # fmt: skip
            if student is not None and name != "student":
                versus = compare(gold, rows, student, said, shape, draws=config["draws"], seed=config["seed"])
                row = replace(row, detail={**row.detail, "versus_student": versus})
            scored.append(row)
    return scored, extra


def _human(human: HumanVotes, hashes: Sequence[bytes], shape: Shape) -> dict[str, Said]:
    import numpy as np

    from factory.evaluation.baselines import majority_of_votes
    from factory.evaluation.systems import Said

    found = {}
    every = np.ones(len(human.votes), bool)
    for name, position, keys in (("human_lfs", human.position, None), ("human_lfs_content_ties", None, hashes)):
        labels, covered, tied = majority_of_votes(human.votes, len(shape.names), position=position, hashes=keys)
        rule = "row index (as WRENCH)" if keys is None else "content hash"
        found[name] = Said(labels, covered, tied, every, None, {"rules": human.votes.shape[1], "tie_break": rule})
    return found


def _gold_systems(
    warehouse: Warehouse,
    db: duckdb.DuckDBPyConnection,
    inputs: Inputs,
    gold: Gold,
    hashes: Sequence[bytes],
    shape: Shape,
    student: Said | None,
    config: Mapping[str, Any],
    progress: Progress,
) -> tuple[dict[str, Said], dict[str, Any] | None]:
    """`dev_only`, `full_gold` and the label-equivalents curve: the student's own recipe on gold alone."""
    import numpy as np

    from factory.evaluation import gold_students as own
    from factory.evaluation.baselines import label_equivalents
    from factory.evaluation.gold import read_gold
    from factory.evaluation.scoring import headline
    from factory.students.store import stored_models

    models = stored_models(warehouse)
    model = models.get("student") or next(iter(models.values()), None)
    if model is None:
        return {}, None
    recipe = own.recipe_of(model, shape.multi)
    on_test = inputs.of(recipe.vectoriser, gold.texts, progress)
    found: dict[str, Said] = {}
    dev = _dev_gold(warehouse, len(shape.names))
    if dev is not None:
        texts, targets, times = own.gold_targets(dev[0], dev[1], recipe.label_nos)
        fitted = own.train(recipe, inputs.of(recipe.vectoriser, texts, progress), targets, times)
        found["dev_only"] = own.says(fitted, recipe, on_test, hashes, shape, {"gold_texts": len(texts)})
    reference = read_gold(db, "reference", len(shape.names))
    if not len(reference):
        return found, None
    texts, targets, times = own.gold_targets(reference.texts, reference.labels, recipe.label_nos)
    progress(0, 0, f"full gold: {len(texts)} texts")
    learned_from = inputs.of(recipe.vectoriser, texts, progress)
    fitted = own.train(recipe, learned_from, targets, times)
    found["full_gold"] = own.says(fitted, recipe, on_test, hashes, shape, {"gold_texts": len(texts)})
    if student is None or not config["equivalents"] or recipe.kind in SLOW_STUDENTS:
        return found, None

    def score_of(rows: Any) -> float:
        learned = own.train(recipe, own.pick(learned_from, rows), targets[rows], np.ones(len(rows)))
        return headline(gold, own.says(learned, recipe, on_test, hashes, shape, {}), shape)

    worth = label_equivalents(
        len(texts), headline(gold, student, shape), score_of,
        draws=config["equivalents_draws"], seed=config["seed"], progress=progress,
    )  # fmt: skip
    return found, None if worth is None else {**worth.as_json(), "metric": "micro_f1" if shape.multi else "accuracy"}


def _dev_gold(warehouse: Warehouse, labels: int) -> tuple[Any, Any] | None:
    """Texts [n] and labels bool [n, k] of the kept rows of `dev` and `seed`, or None."""
    import numpy as np

    rows = warehouse.query(
        """SELECT g.source_no, g.row_no, g.text_no, list(g.label_no) FROM gold g JOIN occurrences o USING (source_no, row_no)
           WHERE o.kept GROUP BY ALL ORDER BY ALL"""
    )
    if not rows:
        return None
    matrix = np.zeros((len(rows), labels), bool)
    for at, (_, _, _, numbers) in enumerate(rows):
        for number in numbers:
            if number >= 0:
                matrix[at, number] = True
    return np.array([row[2] for row in rows], np.int32), matrix


def _hashes(warehouse: Warehouse, gold: Gold) -> list[bytes]:
    found = dict(
        warehouse.query(
            "SELECT text_no, content_hash FROM texts WHERE text_no IN (SELECT text_no FROM split_texts WHERE split = 'test')"
        )
    )
    return [bytes(found[int(number)]) for number in gold.texts]


def _store(warehouse: Warehouse, key: str, scored: Sequence[Scored], extra: Mapping[str, Any] | None) -> None:
    import pyarrow as pa

    rows: list[tuple[Any, ...]] = [
        (row.system, row.variant, row.n, row.n_scored, row.coverage, json.dumps(row.metrics), json.dumps(row.detail))
        for row in scored
    ]
    if extra is not None:
        rows.append(("label_equivalents", "published", scored[0].n, scored[0].n, None, json.dumps(extra), None))
    with warehouse.lease() as db:
        number = next_no(db, "evaluations", "evaluation_no")
        columns = ("system", "variant", "n", "n_scored", "coverage", "metrics", "detail")
        types = (pa.string(), pa.string(), pa.int32(), pa.int32(), pa.float64(), pa.string(), pa.string())
        table: dict[str, Any] = {
            name: pa.array([row[at] for row in rows], kind)
            for at, (name, kind) in enumerate(zip(columns, types, strict=True))
        }
        insert(
            db, "evaluations",
            {"evaluation_no": [number] * len(rows), "key": [key] * len(rows), "split": ["test"] * len(rows), **table},
        )  # fmt: skip


def _did(warehouse: Warehouse, found: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "n": found.get("n", 0),
        "systems": {name: round(row["accuracy"], 4) for name, row in found.get("systems", {}).items()},
        "evaluations": found.get("evaluations", 0),
    }


def _lines(found: Mapping[str, Any]) -> list[str]:
    lines = [
        f"{name}: accuracy {row['accuracy']:.3f}, macro-F1 {row['macro_f1']:.3f} on {row['n_scored']} of {found['n']} rows"
        for name, row in found["systems"].items()
    ]
    return [*lines, f"test was evaluated {found['evaluations']} times with this warehouse"]
