"""Programs as people handle them: list, show, add, edit, approve, reject, diff, test, analyse.

A program's version is its content; an edit is a new version with the old one as its parent, so its votes alone are computed anew.
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

from factory.errors import InputError
from factory.task import current_card, label_names
from factory.warehouse.file import insert, next_no
from factory.warehouse.tables.gold import dev_gold
from factory.warehouse.tables.texts import sample_texts, split_numbers, texts_of

if TYPE_CHECKING:
    import duckdb
    import numpy as np

    from factory.warehouse.file import Warehouse

_COLUMNS = (
    "program_no, name, kind, origin, state, target_label_no, source, parent_no, plan_no, slot_no, request_key,"
    " sample_no, prompt_version, drop_reason, detail, created_at::VARCHAR AS created_at"
)


def list_programs(warehouse: Warehouse, *, every: bool = False) -> list[dict[str, Any]]:
    """Programs with their coverage, overlaps and conflicts on the split `train`.

    Args:
        warehouse: The warehouse.
        every: Rejected and superseded ones too.
    """
    labels = label_names(warehouse)
    figures = {
        row[0]: row[1:]
        for row in warehouse.query('SELECT program_no, coverage, "overlaps", conflicts FROM program_summary')
    }
    rows = []
    for number, name, kind, origin, state, target, reason, detail in warehouse.query(
        "SELECT program_no, name, kind, origin, state, target_label_no, drop_reason, detail FROM programs ORDER BY program_no"
    ):
        if not every and state in ("rejected", "superseded"):
            continue
        coverage, overlaps, conflicts = figures.get(number, (None, None, None))
        rows.append(
            {
                "program_no": number,
                "name": name,
                "kind": kind,
                "origin": origin,
                "state": state,
                "target": None if target is None else labels[target],
                "coverage": coverage,
                "overlaps": overlaps,
                "conflicts": conflicts,
                "drop_reason": reason,
                "detail": detail,
            }
        )
    return rows


def show_program(warehouse: Warehouse, program_no: int) -> dict[str, Any]:
    """Everything stored about a program, its events in order.

    Raises:
        InputError: There is no such program.
    """
    row = _row(warehouse, program_no)
    labels = label_names(warehouse)
    target = row.pop("target_label_no")
    row["target"] = None if target is None else labels[target]
    row["events"] = [
        {"state": state, "reason": reason, "actor": actor, "at": at}
        for state, reason, actor, at in warehouse.query(
            "SELECT state, reason, actor, happened_at::VARCHAR FROM program_events WHERE program_no = ? ORDER BY happened_at",
            [program_no],
        )
    ]
    return row


def add_program(
    warehouse: Warehouse, source: str, *, name: str, target: str | None = None, actor: str = "hand"
) -> dict[str, Any]:
    """Add a program written by hand; it is checked and probed in the sandbox like any other.

    Raises:
        InputError: It does not run, it exists already, or the target is missing or unknown.
    """
    target_no = _target_no(warehouse, target)
    _check(warehouse, source, target, name)
    with warehouse.lease() as db:
        number = _insert(db, source, name, target, target_no, parent=None)
        _event(db, number, "accepted", None, actor)
    return {"program_no": number, "name": name, "state": "accepted", "target": target}


def edit_program(warehouse: Warehouse, program_no: int, source: str, *, actor: str = "hand") -> dict[str, Any]:
    """Give a program a new version; the old one is superseded.

    Raises:
        InputError: No such program, or the new source does not run or exists already.
    """
    old = _row(warehouse, program_no)
    if old["kind"] != "python":
        raise InputError(
            f"program {program_no} is of kind {old['kind']!r} and has no source to edit", where=warehouse.path
        )
    if old["state"] == "superseded":
        raise InputError(
            f"program {program_no} is superseded already", where=warehouse.path, fix="Edit its newest version"
        )
    labels = label_names(warehouse)
    target_no = old["target_label_no"]
    target = None if target_no is None else labels[target_no]
    _check(warehouse, source, target, old["name"])
    with warehouse.lease() as db:
        number = _insert(db, source, old["name"], target, target_no, parent=program_no)
        _set_state(db, program_no, "superseded", f"edited: program {number}", actor)
        _event(db, number, "accepted", None, actor)
    return {"program_no": number, "name": old["name"], "state": "accepted", "parent_no": program_no, "target": target}


def approve_program(warehouse: Warehouse, program_no: int, *, actor: str = "hand") -> dict[str, Any]:
    """Let a program vote.

    Raises:
        InputError: No such program, or it is superseded.
    """
    row = _row(warehouse, program_no)
    if row["state"] == "superseded":
        raise InputError(f"program {program_no} is superseded", where=warehouse.path, fix="Approve its newest version")
    with warehouse.lease() as db:
        _set_state(db, program_no, "accepted", None, actor)
    return {"program_no": program_no, "state": "accepted"}


def reject_program(
    warehouse: Warehouse, program_no: int, *, reason: str = "rejected by hand", actor: str = "hand"
) -> dict[str, Any]:
    """Let a program vote no longer. Its votes are kept beside it and count for nothing.

    Raises:
        InputError: No such program.
    """
    _row(warehouse, program_no)
    with warehouse.lease() as db:
        _set_state(db, program_no, "rejected", reason, actor)
    return {"program_no": program_no, "state": "rejected", "reason": reason}


def diff_program(warehouse: Warehouse, program_no: int) -> dict[str, Any]:
    """How a version differs from its parent: a unified diff, and on how many stored texts its vote differs.

    `votes_changed` is None as long as one of the two has not voted.

    Raises:
        InputError: No such program, or it has no parent.
    """
    new = _row(warehouse, program_no)
    if new["parent_no"] is None:
        raise InputError(f"program {program_no} has no earlier version", where=warehouse.path)
    old = _row(warehouse, new["parent_no"])
    lines = difflib.unified_diff(
        old["source"].splitlines(),
        new["source"].splitlines(),
        f"program {old['program_no']}",
        f"program {program_no}",
        lineterm="",
    )
    voted = warehouse.scalar(
        "SELECT count(DISTINCT program_no) FROM vote_blocks WHERE program_no IN (?, ?)", [old["program_no"], program_no]
    )
    changed = warehouse.scalar(
        "WITH a AS (SELECT text_no, vote FROM votes WHERE program_no = ?),"
        " b AS (SELECT text_no, vote FROM votes WHERE program_no = ?)"
        " SELECT count(*) FROM a FULL JOIN b USING (text_no) WHERE a.vote IS DISTINCT FROM b.vote",
        [old["program_no"], program_no],
    )
    return {
        "program_no": program_no,
        "parent_no": old["program_no"],
        "diff": "\n".join(lines),
        "votes_changed": int(changed) if voted == 2 else None,
    }


def test_program(
    warehouse: Warehouse,
    program_no: int,
    *,
    texts: list[str] | None = None,  # noqa: PT028
    count: int = 20,  # noqa: PT028
) -> list[dict[str, Any]]:
    """Run a program in the sandbox and show what it says.

    Args:
        warehouse: The warehouse.
        program_no: Which.
        texts: Texts to run it on; a fixed sample of the corpus by default.
        count: Size of that sample.
    """
    from factory.programs.sandbox.host.pool import run_programs

    row = _row(warehouse, program_no)
    labels = label_names(warehouse)
    target = None if row["target_label_no"] is None else labels[row["target_label_no"]]
    shown = texts if texts is not None else _sample(warehouse, count)
    run = run_programs([row["source"]], shown, labels, target=target)
    return [
        {"text": text, "vote": _words(int(vote), labels, target), "status": status}
        for text, vote, status in zip(shown, run.votes[:, 0], run.status[:, 0], strict=True)
    ]


test_program.__test__ = False  # type: ignore[attr-defined]


def analyse(warehouse: Warehouse, *, split: str = "train", target: str | None = None) -> dict[str, Any]:
    """Summary, correlations and disagreements of the accepted programs on a split, accuracy where there is dev gold.

    Args:
        warehouse: The warehouse.
        split: Whose texts; the accuracy is measured on the split `dev` in any case.
        target: In a `multi` task, the label whose programs are meant.

    Returns:
        `rows` (columns as Snorkel's `lf_summary`, with `low` and `high`), `correlation` `[m][m]`, `disagreements`.
    """
    from factory.programs.analysis import correlations, disagreements, summarize

    numbers, names, texts, votes = label_matrix(warehouse, split, target=target)
    rows = summarize(votes, names=names)
    judged: dict[int, Any] = {}
    _, _, dev_texts, dev_votes = label_matrix(warehouse, "dev", target=target)
    gold = _dev_gold(warehouse, dev_texts, target)
    if gold is not None:
        judged = {row.j: row for row in summarize(dev_votes, gold, names)}
    shown = texts_of(warehouse, texts)
    table = []
    for row in rows:
        line = row.as_snorkel() | {"program_no": numbers[row.j], "name": row.name}
        if row.j in judged:
            dev = judged[row.j]
            line |= dev.as_snorkel() | row.as_snorkel() | {"low": dev.low, "high": dev.high}
        table.append(line)
    apart = [
        {
            "a": a,
            "b": b,
            "vote_a": left,
            "vote_b": right,
            "texts": n,
            "examples": [shown[int(texts[i])] for i in rows_of],
        }
        for a, b, left, right, n, rows_of in disagreements(votes, names)
    ]
    kappa = [[None if value != value else float(value) for value in line] for line in correlations(votes)]
    return {"rows": table, "correlation": kappa, "disagreements": apart}


def label_matrix(
    warehouse: Warehouse, split: str, *, target: str | None = None
) -> tuple[list[int], list[str], np.ndarray, np.ndarray]:
    """Numbers and names of the accepted programs, the split's text numbers `[n]` and the votes `[n, m]`."""
    import numpy as np

    from factory.programs.sandbox.host.pool import vote_dtype

    labels = label_names(warehouse)
    wanted = None if target is None else labels.index(target)
    programs = warehouse.query(
        "SELECT program_no, name FROM programs WHERE state = 'accepted' AND target_label_no IS NOT DISTINCT FROM ? ORDER BY 1",
        [wanted],
    )
    texts = split_numbers(warehouse, split)
    votes = np.full((len(texts), len(programs)), -1, dtype=vote_dtype(len(labels)))
    column = {number: at for at, (number, _) in enumerate(programs)}
    found = warehouse.arrow(
        "SELECT program_no, text_no, vote FROM votes WHERE text_no IN (SELECT text_no FROM split_texts WHERE split = ?)",
        [split],
    )
    if len(texts) and found.num_rows and programs:
        owners = found.column("program_no").to_numpy()
        rows = np.searchsorted(texts, found.column("text_no").to_numpy())
        table = np.full(int(owners.max()) + 1, -1)
        for number, at in column.items():
            if number < len(table):
                table[number] = at
        keep = table[owners] >= 0
        votes[rows[keep], table[owners[keep]]] = found.column("vote").to_numpy()[keep]
    return [row[0] for row in programs], [row[1] for row in programs], texts, votes


# ----------------------------------------------------------------------------------------------------------------------------
def _dev_gold(warehouse: Warehouse, texts: np.ndarray, target: str | None) -> np.ndarray | None:
    """`[n]` dev gold of the texts (1 or 0 with a target), -1 where there is none; None without any."""
    import numpy as np

    gold = dev_gold(warehouse)
    if not gold:
        return None
    wanted = None if target is None else label_names(warehouse).index(target)
    of = {
        number: (min(found, default=-1) if wanted is None else int(wanted in found)) for number, found in gold.items()
    }
    return np.array([of.get(int(number), -1) for number in texts])


def _row(warehouse: Warehouse, program_no: int) -> dict[str, Any]:
    names = [part.strip().split()[-1] for part in _COLUMNS.split(",")]
    rows = warehouse.query(f"SELECT {_COLUMNS} FROM programs WHERE program_no = ?", [program_no])
    if not rows:
        raise InputError(
            f"there is no program {program_no}", where=warehouse.path, fix="`factory programs list` shows them"
        )
    return dict(zip(names, rows[0], strict=True))


def _target_no(warehouse: Warehouse, target: str | None) -> int | None:
    card = current_card(warehouse)
    if card.kind == "multi":
        if target is None:
            raise InputError("a program of a multi task speaks of one label", fix="Name it as the target")
        if target not in card.label_names:
            near = difflib.get_close_matches(target, card.label_names, n=1)
            raise InputError(
                f"unknown label {target!r}", fix=f"Did you mean {near[0]!r}?" if near else "See the task card"
            )
        return label_names(warehouse).index(target)
    if target is not None:
        raise InputError("a program of a single task speaks of all labels", fix="Leave the target out")
    return None


def _check(warehouse: Warehouse, source: str, target: str | None, name: str) -> None:
    """Run the source on a sample in the sandbox and refuse what does not run."""
    from factory.programs.author.fill import program_key
    from factory.programs.sandbox.host.pool import run_programs

    key = program_key("python", target, source)
    found = warehouse.query("SELECT program_no FROM programs WHERE program_key = ? AND state <> 'superseded'", [key])
    if found:
        raise InputError(
            f"program {found[0][0]} has this very source", where=name, fix=f"Approve program {found[0][0]} instead"
        )
    run = run_programs([source], _sample(warehouse, 200) or ["a text"], label_names(warehouse), target=target)
    if 0 in run.refusals:
        code, words = run.refusals[0]
        raise InputError(f"the program is refused ({code}): {words}", where=name, fix="Mend it and add it again")


def _sample(warehouse: Warehouse, count: int) -> list[str]:
    return [text for _, text in sample_texts(warehouse, count, "probe", split=None)]


def _insert(
    db: duckdb.DuckDBPyConnection,
    source: str,
    name: str,
    target: str | None,
    target_no: int | None,
    *,
    parent: int | None,
) -> int:
    from factory.programs.author.fill import program_key

    number = next_no(db, "programs", "program_no")
    insert(
        db,
        "programs",
        {
            "program_no": [number],
            "program_key": [program_key("python", target, source)],
            "name": [name],
            "kind": ["python"],
            "origin": ["hand"],
            "target_label_no": [target_no],
            "source": [source],
            "parent_no": [parent],
            "state": ["accepted"],
        },
    )
    return number


def _set_state(db: duckdb.DuckDBPyConnection, program_no: int, state: str, reason: str | None, actor: str) -> None:
    db.execute(
        "UPDATE programs SET state = ?, drop_reason = ? WHERE program_no = ?",
        [state, reason if state != "accepted" else None, program_no],
    )
    _event(db, program_no, state, reason, actor)


def _event(db: duckdb.DuckDBPyConnection, program_no: int, state: str, reason: str | None, actor: str) -> None:
    columns = {"program_no": [program_no], "state": [state], "reason": [reason], "actor": [actor]}
    insert(db, "program_events", columns)


def _words(vote: int, labels: list[str], target: str | None) -> str | None:
    if vote < 0:
        return None
    if target is not None:
        return "yes" if vote else "no"
    return labels[vote]
