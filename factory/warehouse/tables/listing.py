"""Texts as people look for them: by what was said of them, by label, by program, by a piece of text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from factory.errors import InputError, nearest
from factory.warehouse.tables.answers import people_said
from factory.warehouse.tables.labels import CHOSEN
from factory.warehouse.tables.programs import PERSON

if TYPE_CHECKING:
    from factory.warehouse.file import Warehouse

SHOWS: dict[str, str] = {
    "all": "all texts", "uncovered": "no program votes", "conflict": "programs contradict each other",
    "tied": "votes tie", "doubtful": "least sure first", "open": "not answered by a person", "answered": "answered by a person",
    "differs": "a person says otherwise than the label model",
}  # fmt: skip
"""What may be shown, in words."""
SPLITS = ("train", "dev", "seed", "test", "synthetic")
MOST_CHARACTERS = 600
"""Characters of a text in a list."""


@dataclass(frozen=True)
class Wanted:
    """Which texts are looked for.

    Attributes:
        split: One of `SPLITS`; `any` with `among`.
        show: One of `SHOWS`.
        label: Name of the label that the label model holds for likeliest (of a `multi` task: for more likely than not).
        program: Number of a program that votes on them.
        find: A piece of text, capitals or not.
        number: Only the text of this number.
        among: Only these texts, in this order; None for all.
    """

    split: str = "train"
    show: str = "all"
    label: str | None = None
    program: int | None = None
    find: str = ""
    number: int | None = None
    among: tuple[int, ...] | None = None


def find_texts(
    warehouse: Warehouse, wanted: Wanted, names: list[str], *, single: bool, first: int = 0, count: int = 50
) -> dict[str, Any]:
    """Texts that are wanted, with what is known of each.

    Args:
        warehouse: Where they are.
        wanted: Which.
        names: Label names by number.
        single: Whether a text has one label.
        first: So many are left out at the beginning.
        count: Most texts.

    Returns:
        `total`, and `texts`: each `text_no`, `text` (its beginning), `long` (whether there is more), `votes` (how many),
        `label` (in a `multi` task labels, with commas between) and `probability` by the label model, and `answers`: what people
        said.

    Raises:
        InputError: An unknown filter, split or label.
    """
    with warehouse.read() as db:
        conditions, values = _conditions(wanted, names, single)
        best = "list_max(s.probs)" if single else "list_min([abs(x - 0.5) FOR x IN s.probs IF x IS NOT NULL])"
        order = f"{best} NULLS LAST, t.text_no" if wanted.show == "doubtful" else "t.text_no"
        if wanted.among is not None:
            order = "list_position($among::INTEGER[], t.text_no)"
        labels = f" LEFT JOIN soft_labels s ON s.text_no = t.text_no AND s.label_model_no = {CHOSEN}"
        joined = labels if wanted.label or wanted.show in ("tied", "doubtful", "differs") else ""
        ((total, numbers),) = db.execute(  # one pass tells how many there are, and which are shown
            f"SELECT count(*), array_agg(t.text_no ORDER BY {order})[{first + 1}:{first + count}] FROM texts t{joined}"
            f" WHERE {conditions}",
            values,
        ).fetchall()
        # A list of values lets DuckDB skip blocks, where a subquery would have it read whole columns.
        these = ", ".join(str(int(number)) for number in numbers or ()) or "NULL"
        found = db.execute(
            f"SELECT text_no, left(text, {MOST_CHARACTERS}), length(text) > {MOST_CHARACTERS} FROM texts"
            f" WHERE text_no IN ({these})"
        ).fetchall()
        shares = dict(
            db.execute(
                f"SELECT text_no, probs FROM soft_labels WHERE label_model_no = {CHOSEN} AND text_no IN ({these})"
            ).fetchall()
        )
        votes = dict(
            db.execute(
                "SELECT text_no, count(*) FROM votes JOIN programs USING (program_no) WHERE state = 'accepted'"
                f" AND NOT {PERSON} AND text_no IN ({these}) GROUP BY text_no"
            ).fetchall()
        )
        said = people_said(db, numbers or ())
    found.sort(key=lambda row: numbers.index(row[0]))
    return {"total": int(total), "texts": [
        {
            "text_no": number, "text": text, "long": long, "votes": votes.get(number, 0),
            **likeliest(shares.get(number), names, single), "answers": [
                {"by": by, "labels": [names[at] for at in labels]} for by, labels in said.get(number, ())
            ],
        }
        for number, text, long in found
    ]}  # fmt: skip


def likeliest(probs: list[float | None] | None, names: list[str], single: bool) -> dict[str, Any]:
    """`label` and `probability` of a row of probabilities by label number; both None where nothing is known."""
    known = [(value, at) for at, value in enumerate(probs or ()) if value is not None]
    if not known:
        return {"label": None, "probability": None}
    if single:
        value, at = max(known, key=lambda one: (one[0], -one[1]))
        return {"label": names[at], "probability": value}
    yes = [names[at] for value, at in known if value > 0.5]
    return {"label": ", ".join(yes) or "none", "probability": min(max(value, 1 - value) for value, _ in known)}


def recent_answers(
    warehouse: Warehouse, annotator: str | None, *, last: int
) -> list[tuple[frozenset[int], list[float | None]]]:
    """A person's last answers that stand, the newest first: label numbers, and what the label model says of the text."""
    rows = warehouse.query(
        "SELECT label_nos, probs FROM answer_events e JOIN soft_labels s ON s.text_no = e.text_no AND s.label_model_no ="
        f" {CHOSEN} AND s.covered WHERE annotator IS NOT DISTINCT FROM ? AND NOT undone"
        f" ORDER BY action_no DESC, e.text_no LIMIT {int(last)}",
        [annotator],
    )
    return [(frozenset(labels), probs) for labels, probs in rows]


def _conditions(wanted: Wanted, names: list[str], single: bool) -> tuple[str, dict[str, Any]]:
    if wanted.split not in SPLITS and not (wanted.split == "any" and wanted.among is not None):
        raise InputError(f"there is no split {wanted.split!r}", fix=f"It is one of {', '.join(SPLITS)}")
    if wanted.show not in SHOWS:
        raise InputError(
            f"there is no filter {wanted.show!r}{nearest(wanted.show, SHOWS)}", fix=f"Use one of {', '.join(SHOWS)}"
        )
    values: dict[str, Any] = {}
    parts = []
    if wanted.split == "any":
        parts.append("true")
    elif wanted.split == "synthetic":
        parts.append("t.text_no IN (SELECT text_no FROM synthetic WHERE state = 'accepted')")
    else:
        parts.append("t.text_no IN (SELECT text_no FROM split_texts WHERE split = $split)")
        values["split"] = wanted.split
    of_programs = f"votes JOIN programs USING (program_no) WHERE state = 'accepted' AND NOT {PERSON}"
    voted = f"(SELECT text_no FROM {of_programs})"
    answered = "(SELECT text_no FROM anchors WHERE source = 'person')"
    shown = {
        "uncovered": f"t.text_no NOT IN {voted}",
        "conflict": f"t.text_no IN (SELECT text_no FROM {of_programs}"
        " GROUP BY text_no, target_label_no HAVING min(vote) < max(vote))",
        "tied": "s.tie", "doubtful": "s.covered", "open": f"t.text_no NOT IN {answered}", "answered": f"t.text_no IN {answered}",
        "differs": "s.covered AND t.text_no IN (SELECT a.text_no FROM anchors a JOIN soft_labels x ON x.text_no = a.text_no"
        f" AND x.label_model_no = {CHOSEN} WHERE a.source = 'person' AND a.yes <> "
        + ("(list_position(x.probs, list_max(x.probs)) = a.label_no + 1))" if single else "(x.probs[a.label_no + 1] > 0.5))"),
    }  # fmt: skip
    if wanted.show in shown:
        parts.append(shown[wanted.show])
    if wanted.label:
        if wanted.label not in names:
            raise InputError(f"unknown label {wanted.label!r}{nearest(wanted.label, names)}")
        at = names.index(wanted.label) + 1
        parts.append(f"list_position(s.probs, list_max(s.probs)) = {at}" if single else f"s.probs[{at}] > 0.5")
    if wanted.program is not None:
        parts.append("t.text_no IN (SELECT text_no FROM votes WHERE program_no = $program)")
        values["program"] = wanted.program
    if wanted.number is not None:
        parts.append("t.text_no = $number")
        values["number"] = wanted.number
    if wanted.among is not None:
        parts.append("t.text_no IN (SELECT unnest($among::INTEGER[]))")
        values["among"] = list(wanted.among)
    if wanted.find.strip():
        parts.append("contains(lower(t.text), lower($find))")
        values["find"] = wanted.find.strip()
    return " AND ".join(parts), values
