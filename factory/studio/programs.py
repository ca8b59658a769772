"""Pages of the programs: the table, one program, and a new one, tried on texts while it is written."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request
from fastapi.responses import Response

from factory.errors import FactoryError, InputError
from factory.pipeline.drafts import try_draft
from factory.programs import draft, manage, view
from factory.programs.rules import read_rules
from factory.programs.rules.lists import KINDS, YES_NO
from factory.studio.views import Form, Posted, back_to, number
from factory.warehouse.tables.programs import SUGGESTED

if TYPE_CHECKING:
    from factory.studio.desk import Desk
    from factory.studio.views import Views

COLUMNS = {
    "name": "program", "state": "state", "kind": "kind", "origin": "author", "polarity": "polarity", "coverage": "coverage",
    "overlaps": "overlaps", "conflicts": "conflicts", "accuracy": "accuracy (95%)", "failures": "failures", "tokens": "tokens",
}  # fmt: skip
"""Columns of the table, and what they are called; Snorkel's names where it has them."""
SPARE_ROWS = 2
"""Empty rows at the end of a list of rules."""
START = {"python": 'def label(text):\n    """Say in a line what it looks for."""\n    return None\n', "rules": ""}


def add_to(app: FastAPI, views: Views) -> None:
    """Add these pages."""
    desk = views.desk

    @app.get("/programs")
    def programs(request: Request, sort: str = "program_no", order: str = "asc", every: str = "") -> Response:
        with desk.warehouse.read():  # the file is opened once
            rows = _listed(desk, every=bool(every))
            hidden = 0 if every else _hidden(desk)
        rows = _sorted(rows, sort, order == "desc")
        return views.page(
            request, "programs", part="_programs", rows=rows, columns=COLUMNS, sort=sort, order=order, every=every, hidden=hidden,
            labels=desk.labels(), may_ask=desk.pipeline is not None,
            does=desk.command("programs", "list", "RUN", "--all" if every else None),
        )  # fmt: skip

    @app.get("/programs/new")
    def new(request: Request, kind: str = "rules", value: str = "", label: str = "", name: str = "") -> Response:
        kind = _kind(kind)
        target, said = _spoken(desk, label)
        rows = [_row(value=value, label=said)] if value else []
        tried, fault = (None, None)
        if rows:
            tried, fault = _tried(desk, rules_source(rows), kind, target, None)
        return views.page(request, "draft", **_editor(
            desk, kind=kind, target=target, rows=rows, source=START[kind], name=name or _name_of(value), tried=tried, fault=fault
        ))  # fmt: skip

    @app.post("/programs/try")
    def try_new(request: Request, form: Posted) -> Response:
        return _try(request, form, None)

    @app.post("/programs/{program_no}/try")
    def try_edit(request: Request, program_no: int, form: Posted) -> Response:
        return _try(request, form, program_no)

    def _try(request: Request, form: Form, program_no: int | None) -> Response:
        kind = form["kind_of_program"]
        target = form["target"] or None
        rows = _rows(form) if kind == "rules" else []
        source = rules_source(rows) if kind == "rules" else form["source"]
        tried, fault = _tried(desk, source, kind, target, program_no)
        shown = view.show_program(desk.warehouse, program_no) if program_no is not None else None
        values = _editor(desk, kind=kind, target=target, rows=rows, source=source, name=form["name"], tried=tried, fault=fault,
                         program=shown)  # fmt: skip
        return views.page(request, "draft", part="_tried", **values)

    @app.post("/programs")
    def add(request: Request, form: Posted) -> Response:
        kind, name = _kind(form["kind_of_program"]), form["name"].strip()
        if not name or len(name) > 200:
            raise InputError("a program has a name of 1 to 200 characters")
        source = rules_source(_rows(form)) if kind == "rules" else form["source"]
        with desk.writing() as warehouse:
            added = manage.add_program(
                warehouse, source, name=name, target=form["target"] or None, kind=kind, sandbox=desk.sandbox,
                actor=desk.actor,
            )  # fmt: skip
        remark = f" Remark: {added['remark']}" if "remark" in added else ""
        words = f"Program {added['program_no']} is accepted. Run the pipeline again to let it vote.{remark}"
        back = {"program": str(added["program_no"]), "what": "reject", "reason": "taken back", "back": "/programs"}
        return views.done(request, words, f"/programs/{added['program_no']}", ("/programs/decide", back))

    @app.get("/programs/{program_no}")
    def program(request: Request, program_no: int, value: str = "", label: str = "", text: str = "") -> Response:
        with desk.warehouse.read():  # the file is opened once; what is tried below holds it no more
            shown = view.show_program(desk.warehouse, program_no)
            figures = next((r for r in _listed(desk, every=True) if r["program_no"] == program_no), None)
            change = view.diff_program(desk.warehouse, program_no) if shown["parent_no"] is not None else None
            newer, suggested = _newer(desk, program_no), _suggested(desk, program_no)
            rows = _rows_of(desk, shown)
        values = dict[str, Any](editor=None, matches=[], fault=None, tried=None)
        if shown["kind"] in START:
            if value:
                rows.append(_row(value=value, label=label if shown["target"] is None else "yes"))
            source = rules_source(rows) if shown["kind"] == "rules" else shown["source"]
            tried, fault = _tried(desk, source, shown["kind"], shown["target"], program_no)
            values = _editor(desk, kind=shown["kind"], target=shown["target"], rows=rows, source=shown["source"],
                             name=shown["name"], tried=tried, fault=fault, program=shown)  # fmt: skip
        values |= {
            "program": shown,
            "figures": figures,
            "change": change,
            "newer": newer,
            "suggested": suggested,
            "ask_for": text,
            "may_ask": desk.pipeline is not None,
        }
        values.setdefault("does", desk.command("programs", "show", "RUN", program_no))
        return views.page(request, "program", **values)

    @app.post("/programs/{program_no}/edit")
    def edit(request: Request, program_no: int, form: Posted) -> Response:
        source = rules_source(_rows(form)) if form["kind_of_program"] == "rules" else form["source"]
        return _edited(request, program_no, source)

    @app.post("/programs/{program_no}/restore")
    def restore(request: Request, program_no: int) -> Response:
        """An older version's source becomes the newest version."""
        newest, old = _newer(desk, program_no), view.show_program(desk.warehouse, program_no)
        if newest is None:
            raise InputError(f"program {program_no} is the newest version already")
        return _edited(request, newest, old["source"])

    def _edited(request: Request, program_no: int, source: str) -> Response:
        with desk.writing() as warehouse:
            edited = manage.edit_program(warehouse, program_no, source, sandbox=desk.sandbox, actor=desk.actor)
        words = f"Program {edited['program_no']} supersedes {program_no}. Run the pipeline again: its votes alone are computed."
        undo = (f"/programs/{program_no}/restore", dict[str, str]())
        return views.done(request, words, f"/programs/{edited['program_no']}", undo)

    @app.post("/programs/decide")
    def decide(request: Request, form: Posted) -> Response:
        """Approve or reject one program, or several."""
        chosen = [number(one, "program") for one in form.all("program")]
        what, reason = form["what"], form["reason"].strip() or "rejected by hand"
        if not chosen or what not in ("approve", "reject"):
            raise InputError("say which programs, and whether to approve or to reject them")
        with desk.writing() as warehouse:
            for one in chosen:
                if what == "approve":
                    manage.approve_program(warehouse, one, actor=desk.actor)
                else:
                    manage.reject_program(warehouse, one, reason=reason, actor=desk.actor)
        did = {"approve": "accepted", "reject": "rejected"}[what]
        which = f"Program {chosen[0]} is" if len(chosen) == 1 else f"{len(chosen)} programs are"
        to = back_to(form, "/programs")
        undo = None
        if len(chosen) == 1:
            other = {"approve": "reject", "reject": "approve"}[what]
            fields = {"program": str(chosen[0]), "what": other, "reason": "taken back", "back": to}
            undo = ("/programs/decide", fields)
        return views.done(request, f"{which} {did}. Run the pipeline again to let it count.", to, undo)

    @app.post("/programs/write")
    def write(request: Request, form: Posted) -> Response:
        """The model writes more programs."""
        label, more = form["label"], ["--count", str(form.number("count"))]
        if label:
            _spoken(desk, label)
            more += ["--label", label]
        if form["conflicts"]:
            more += ["--conflicts"]
        desk.begin("programs write", *more)
        return views.done(
            request, "The model is asked. What it writes is checked and tried before it is listed.", "/run"
        )

    @app.post("/programs/{program_no}/repair")
    def repair(request: Request, program_no: int, form: Posted) -> Response:
        """The model repairs a program by texts that it gets wrong."""
        view.show_program(desk.warehouse, program_no)
        texts = [*form.all("text"), *re.split(r"[\s,;]+", form["more"].strip())]
        more = [word for one in dict.fromkeys(texts) if one for word in ("--text", one)]
        if not more or not all(re.fullmatch(r"[0-9]{1,9}(=.{1,200})?", one) for one in more[1::2]):
            raise InputError("name the texts that it gets wrong: their numbers, as 12, or with the label, as 12=LABEL")
        desk.begin("programs repair", str(program_no), *more)
        return views.done(
            request, "The model is asked. Its repair will stand on the program's page, for you to decide.", "/run"
        )


# Rules as rows ------------------------------------------------------------------------------------------------------------
def _row(**given: str) -> dict[str, str]:
    return {"kind": "word", "value": "", "label": "", "weight": "", "with": "", "unless": ""} | given


def _rows(form: Form) -> list[dict[str, str]]:
    """The rows of a form that have a value."""
    columns = [form.all(name) for name in _row()]
    if len({len(column) for column in columns}) > 1:
        raise InputError("the rows of the form are not whole")
    rows = [_row(**dict(zip(_row(), row, strict=True))) for row in zip(*columns, strict=True)]
    return [row for row in rows if row["value"].strip()]


def _rows_of(desk: Desk, shown: Mapping[str, Any]) -> list[dict[str, str]]:
    """A stored list of rules as rows."""
    if shown["kind"] != "rules":
        return []
    found = read_rules(shown["source"], desk.names(), shown["target"])

    def cues(given: Sequence[Any]) -> str:
        return "\n".join(
            c.value if c.kind == "word" and not _prefix(c.value) else f"{c.kind}: {c.value}" for c in given
        )

    return [
        _row(
            kind=rule.cue.kind, value=rule.cue.value, label=rule.label, unless=cues(rule.unless),
            weight="" if rule.weight == 100 else f"{rule.weight / 100:g}", **{"with": cues(rule.beside)},
        )
        for rule in found.rules
    ]  # fmt: skip


def rules_source(rows: Sequence[Mapping[str, str]]) -> str:
    """Rows as the JSON that a list of rules is read from. A line of `with` or `unless` is a word, or `KIND: VALUE`."""
    rules = []
    for row in rows:
        rule: dict[str, Any] = {name: row[name] for name in ("kind", "value", "label")}
        if row["weight"].strip():
            rule["weight"] = row["weight"].strip()
        for name in ("with", "unless"):
            lines = [line.strip() for line in row[name].split("\n") if line.strip()]
            if lines:
                rule[name] = [_cue(line) for line in lines]
        rules.append(rule)
    return json.dumps({"rules": rules}, ensure_ascii=False)


def _cue(line: str) -> Any:
    kind = _prefix(line)
    return line if kind is None else {"kind": kind, "value": line.split(": ", 1)[1]}


def _prefix(line: str) -> str | None:
    return next((kind for kind in KINDS if line.startswith(f"{kind}: ")), None)


# Trying -------------------------------------------------------------------------------------------------------------------
def _tried(
    desk: Desk, source: str, kind: str, target: str | None, program_no: int | None
) -> tuple[draft.Drafted | None, str | None]:
    """What a source does, or why it cannot be used."""
    try:
        tried = try_draft(
            desk.warehouse,
            source,
            kind=kind,
            target=target,
            program_no=program_no,
            sandbox=desk.sandbox,
            keep=desk.kept,
        )
    except FactoryError as error:
        return None, str(error)
    return tried, None


def _editor(
    desk: Desk, *, kind: str, target: str | None, rows: list[dict[str, str]], source: str, name: str,
    tried: draft.Drafted | None, fault: str | None, program: Mapping[str, Any] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """What the templates of an editor ask for."""
    card = desk.card()
    labels, multi = card.label_names, card.kind == "multi"
    file = "draft.json" if kind == "rules" else "draft.py"
    if program is None:
        does = desk.command(
            "programs", "add", "RUN", file, "--name", name or "NAME", *(["--target", target] if target else [])
        )
    else:
        does = desk.command("programs", "edit", "RUN", program["program_no"], "--file", file)
    return {
        "kind": kind, "target": target, "name": name, "source": source, "tried": tried, "fault": fault, "program": program,
        "labels": labels, "multi": multi, "choices": list(YES_NO) if multi else labels, "kinds": KINDS,
        "rows": [*rows, *(_row() for _ in range(SPARE_ROWS))], "does": does, "editor": True,
    }  # fmt: skip


def _spoken(desk: Desk, label: str) -> tuple[str | None, str]:
    """The target and the label of a rule that speaks for a label."""
    labels = desk.labels()
    if label and label not in labels:
        raise InputError(f"unknown label {label[:80]!r}")
    multi = desk.card().kind == "multi"
    return (label or labels[0], "yes") if multi else (None, label)


def _kind(kind: str) -> str:
    if kind not in START:
        raise InputError(f"there is no kind {kind[:40]!r}", fix="It is rules or python")
    return kind


def _name_of(value: str) -> str:
    words = "-".join(word for word in "".join(c if c.isalnum() else " " for c in value).split()[:4])
    return f"rule-{words.lower()}"[:60] if words else ""


# Reading ------------------------------------------------------------------------------------------------------------------
def _sorted(rows: list[dict[str, Any]], by: str, down: bool) -> list[dict[str, Any]]:
    """Sorted, with what has no figure at the end."""
    if by not in ("program_no", *COLUMNS):
        return rows
    there, none = ([row for row in rows if (row[by] is None) == empty] for empty in (False, True))
    return [*sorted(there, key=lambda row: row[by], reverse=down), *none]


def _listed(desk: Desk, *, every: bool) -> list[dict[str, Any]]:
    """As `list_programs`, kept until something is written."""
    return desk.kept(("programs", every), lambda: view.list_programs(desk.warehouse, every=every))


def _hidden(desk: Desk) -> int:
    return int(desk.warehouse.scalar("SELECT count(*) FROM programs WHERE state IN ('rejected', 'superseded')"))


def _newer(desk: Desk, program_no: int) -> int | None:
    """The newest version that came of a program, or None."""
    newest = None
    rows = dict(
        desk.warehouse.query(
            "SELECT parent_no, max(program_no) FROM programs WHERE parent_no IS NOT NULL"
            " AND drop_reason IS DISTINCT FROM ? GROUP BY 1",
            [SUGGESTED],
        )
    )
    while program_no in rows:
        newest = program_no = int(rows[program_no])
    return newest


def _suggested(desk: Desk, program_no: int) -> list[int]:
    """Versions of a program that wait for a person."""
    rows = desk.warehouse.query(
        "SELECT program_no FROM programs WHERE parent_no = ? AND state = 'rejected' AND drop_reason = ? ORDER BY 1",
        [program_no, SUGGESTED],
    )
    return [int(number) for (number,) in rows]
