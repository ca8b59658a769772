"""`ingest`: sources into the warehouse, as the difference to what is there."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from factory.corpus import splits
from factory.corpus.file_stamps import read_hints, write_hints
from factory.corpus.reader import GOLD_SPLITS, Read, Reader
from factory.corpus.splits import LikeTest, is_settled, settle_splits
from factory.corpus.staging import Arrival, take_in
from factory.errors import InputError
from factory.files.base import place
from factory.files.columns import Columns
from factory.files.open import format_of
from factory.files.source import SourceSpec, load_specs
from factory.files.stamp import file_state
from factory.result import Progress, StageResult, no_progress
from factory.spread import Work, spread
from factory.task import TaskCard, register
from factory.warehouse.file import Warehouse, first_row, next_no
from factory.warehouse.tables.gold import drop_gold


@dataclass
class _Call:
    """What one call goes by, and what happened, gathered over the sources."""

    warehouse: Warehouse
    card: TaskCard
    base: Path | None
    like_test: LikeTest
    progress: Progress
    hints: dict[str, str]
    written: int = 0
    read: int = 0
    says: list[str] = field(default_factory=list)

    def numbers(self) -> dict[str, int]:
        """Label name to number, labels on the card alone."""
        return dict(self.warehouse.query("SELECT name, label_no FROM labels WHERE active ORDER BY label_no"))

    def state(self, split: str, spec: SourceSpec, numbers: Mapping[str, int]) -> str | None:
        """What a source's file looks like from outside, and what else its rows depend on."""
        context = [split, self.card.kind, list(self.card.fields), dict(numbers)]
        return file_state(spec.located(self.base), spec, context)

    def has_card(self) -> bool:
        """Whether the warehouse holds this revision of the card."""
        newest = self.warehouse.scalar("SELECT revision FROM tasks ORDER BY task_no DESC LIMIT 1")
        return bool(newest == self.card.revision)


def ingest(
    warehouse: Warehouse, card: TaskCard, sources: Mapping[str, Any], *, base: Path | None = None,
    bad_rows: int | None = None, like_test: LikeTest = "leave", progress: Progress = no_progress,
) -> StageResult:  # fmt: skip
    """Register the card and read the texts of `train`, `seed`, `dev` and `test`, with the gold of `seed` and `dev` alone.

    A source that did not change is not read again, one that did is taken in as the difference. Each source is one
    transaction, in the order of the splits, so a killed call and an undisturbed one end equal. A named split's earlier
    sources that are no longer named leave the warehouse; splits that are not named stay as they are.

    Args:
        warehouse: Where the texts go.
        card: The task.
        sources: Split to a path, a `SourceSpec`, its mapping, or a list of these. `reference` is left to the evaluation.
        base: What relative paths are relative to.
        bad_rows: How many unusable rows a source may have, for sources that do not say it themselves.
        like_test: Whether a text that differs from one of `test` in case, blanks or accents' form alone leaves the other splits,
            as an exact copy always does.
        progress: Called after each batch of rows.

    Returns:
        `did`: rows, distinct texts and kept occurrences by split, duplicates, unusable rows, and what left a split.

    Raises:
        InputError: A source cannot be read, or has too many unusable rows.
        WarehouseError: The warehouse cannot be written.
    """
    specs = load_specs(sources, base=base)
    specs.pop("reference", None)
    if bad_rows is not None:
        allowed = {"bad_limit": bad_rows}
        specs = {
            split: tuple(
                one if "bad_limit" in one.model_fields_set else one.model_copy(update=allowed) for one in of_split
            )
            for split, of_split in specs.items()
        }
    call = _Call(warehouse, card, base, like_test, progress, read_hints(warehouse))
    with warehouse.read():
        if is_settled(warehouse, like_test) and _is_current(call, specs):
            did, facts = _summary(warehouse)
            return StageResult("ingest", True, {**did, "new_rows": 0}, tuple(facts))
    if not call.has_card():
        register(warehouse, card)
        call.written += 1
    numbers = call.numbers()
    _ingest_all(call, numbers, specs)
    if not is_settled(warehouse, like_test):
        with warehouse.lease() as db:
            call.written += 1 + settle_splits(db, like_test=like_test)
    with warehouse.read():
        did, facts = _summary(warehouse)
    did["new_rows"] = call.read
    return StageResult("ingest", call.written == 0, did, (*call.says, *facts))


def _is_current(call: _Call, specs: Mapping[str, tuple[SourceSpec, ...]]) -> bool:
    """Whether the warehouse holds this card and these sources, as far as names, counts and hints tell."""
    if not call.has_card():
        return False
    numbers = call.numbers()
    for split, of_split in specs.items():
        held = {path for (path,) in call.warehouse.query("SELECT path FROM sources WHERE split = ?", [split])}
        if held != {spec.name for spec in of_split}:
            return False
        if not all(_unchanged(call, numbers, split, spec) for spec in of_split):
            return False
    return True


def _unchanged(call: _Call, numbers: Mapping[str, int], split: str, spec: SourceSpec) -> bool:
    """Whether one source is held whole and its file looks as it did."""
    state = call.state(split, spec, numbers)
    if state is None or call.hints.get(f"{split}:{spec.name}") != state:
        return False
    counts = call.warehouse.query(
        """SELECT n_rows, (SELECT count(*) FROM occurrences o WHERE o.source_no = s.source_no)
           FROM sources s WHERE split = ? AND path = ?""",
        [split, spec.name],
    )
    return bool(counts) and counts[0][0] == counts[0][1]


def _ingest_all(call: _Call, numbers: Mapping[str, int], specs: Mapping[str, tuple[SourceSpec, ...]]) -> None:
    """Read the sources that changed, each by itself, and store them in order."""
    wanted = [(split, spec) for split, of in specs.items() for spec in of if not _unchanged(call, numbers, split, spec)]

    def asked() -> Iterator[tuple[str | None, tuple[str, SourceSpec]]]:
        for split, spec in wanted:
            format_of(spec.reading(call.base))
            yield call.state(split, spec, numbers), (split, spec)

    base = None if call.base is None else call.base.absolute()
    given = (call.card.fields, call.card.kind, dict(numbers))
    changed = {(split, spec.name) for split, spec in wanted}
    with tempfile.TemporaryDirectory(prefix="factory-ingest-") as name:
        folder = Path(name)
        work = Work(Reader, (*given, base), Reader(*given, call.base, folder, call.progress))
        # what stands in a stream is there for this process alone
        divides = all(spec.path != "-" for _, spec in wanted)
        with closing(spread(work, asked(), len(wanted), here=not divides)) as reads:
            for split, of_split in specs.items():
                _forget(call, split, [spec.name for spec in of_split])
                for spec in of_split:
                    if (split, spec.name) in changed:
                        state, read = next(reads)
                        _take(call, split, spec, read, read.laid_down(folder), state)


def _take(call: _Call, split: str, spec: SourceSpec, read: Read, arrival: Arrival, state: str | None) -> None:
    """Store a source that was read."""
    call.says += read.says
    if spec.texts is None and not (arrival.n_rows or arrival.bad or arrival.left_out):
        raise InputError("there is no row in it", where=spec.name, fix=f"Give `{split}` a file with rows, or none")
    call.read += arrival.n_rows
    call.progress(call.read, 0, f"{split}: rows read")
    changed = _store(call, split, spec, read.kind, read.columns, arrival)
    call.written += changed
    if arrival.bad:
        first = sorted(arrival.bad, key=lambda row: row.row_no)[:3]
        worst = ", ".join(f"{place(spec.name, row.row_no, read.kind)} {row.reason}" for row in first)
        call.says.append(
            f"{spec.name}: {arrival.n_bad} of {arrival.n_rows + arrival.n_bad} rows cannot be used ({worst}"
            f"{', ...' if arrival.n_bad > 3 else ''}); they are in bad_rows"
        )
    for reason, count in sorted(arrival.left_out.items()):
        told = "are hand-labelled rule exemplars and were left out" if reason == "exemplar" else f"left by `{reason}`"
        call.says.append(f"{spec.name}: {count} rows {told}")
    if state is not None:
        call.hints[f"{split}:{spec.name}"] = state
        write_hints(call.warehouse, call.hints)


def _store(call: _Call, split: str, spec: SourceSpec, kind: str, columns: Columns, arrival: Arrival) -> int:
    """Take an arrival in, in one transaction. Returns how many things changed."""
    told = json.dumps({"text": list(columns.text), "label": columns.label, "own": list(columns.own)}, sort_keys=True)
    with call.warehouse.lease() as db:
        known = "SELECT source_no, content_digest, n_rows, n_bad, format, columns::VARCHAR FROM sources"
        row = first_row(db.execute(f"{known} WHERE split = ? AND path = ?", [split, spec.name]))
        facts = (arrival.content_digest, arrival.n_rows, arrival.n_bad, kind, told)
        if row is None:
            source_no = next_no(db, "sources", "source_no")
            db.execute(
                "INSERT INTO sources (source_no, split, path, content_digest, n_rows, n_bad, format, columns)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                [source_no, split, spec.name, *facts],
            )
        else:
            source_no = row[0]
            if tuple(row[1:]) != facts:
                db.execute(
                    "UPDATE sources SET content_digest = ?, n_rows = ?, n_bad = ?, format = ?, columns = ?,"
                    " ingested_at = now()::TIMESTAMP WHERE source_no = ?",
                    [*facts, source_no],
                )
        counts = take_in(db, source_no, split, arrival, gold=split in GOLD_SPLITS)
        settled = settle_splits(db, like_test=call.like_test)
    return sum(counts.values()) + settled + (row is None or tuple(row[1:]) != facts)


def _forget(call: _Call, split: str, names: list[str]) -> None:
    """Take out the occurrences of a split's sources that are no longer named."""
    held = "SELECT source_no, path FROM sources WHERE split = ? ORDER BY 1"
    gone = [(number, path) for number, path in call.warehouse.query(held, [split]) if path not in names]
    if not gone:
        return
    with call.warehouse.lease() as db:
        for number, path in gone:
            drop_gold(db, number)
            for table in ("occurrences", "occurrence_fields", "bad_rows", "sources"):
                db.execute(f"DELETE FROM {table} WHERE source_no = ?", [number])
            call.says.append(f"{path}: no longer a source of {split}; its rows left")
        settle_splits(db, like_test=call.like_test)
    call.written += len(gone)


def _summary(warehouse: Warehouse) -> tuple[dict[str, Any], list[str]]:
    """What the warehouse holds now, for the result."""
    by_split = warehouse.query(
        """SELECT split, count(*), count(*) FILTER (WHERE kept), count(DISTINCT text_no) FILTER (WHERE kept),
                  count(*) FILTER (WHERE leave_reason = 'in_test'), count(*) FILTER (WHERE leave_reason = 'like_test')
           FROM occurrences GROUP BY split ORDER BY split"""
    )
    did: dict[str, Any] = {
        "splits": {split: {"rows": kept, "texts": distinct} for split, _, kept, distinct, *_ in by_split},
        "rows": sum(row[1] for row in by_split),
        "texts": warehouse.scalar("SELECT count(*) FROM texts WHERE origin = 'corpus'"),
        "duplicates": sum(kept - distinct for _, _, kept, distinct, *_ in by_split),
        "bad_rows": warehouse.scalar("SELECT count(*) FROM bad_rows WHERE drop_reason <> 'exemplar'"),
        "exemplars": warehouse.scalar("SELECT count(*) FROM bad_rows WHERE drop_reason = 'exemplar'"),
        "left_for_test": sum(sum(row[4:]) for row in by_split),
    }
    says = []
    for split, _, kept, distinct, *left in by_split:
        words = [
            f"{count:,} left because they {why}" for count, why in zip(left, splits.LEFT.values(), strict=True) if count
        ]
        says.append("; ".join([f"{split}: {kept:,} rows, {distinct:,} distinct texts", *words]))
    if shared := splits.shared_texts(warehouse):
        did["train_texts_in_dev_or_seed"] = shared
        says.append(f"{shared} texts stand in train and in dev or seed; they stay in both")
    if alike := splits.alike_texts(warehouse):
        did["alike"] = alike
        says.append(f"{alike} texts of train differ from another one in case, blanks or accents' form alone; they stay")
    if contradicted := splits.contradictions(warehouse):
        did["contradictions"] = len(contradicted)
        says += splits.contradiction_words(contradicted)
    return did, says
