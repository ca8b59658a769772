"""Pages of the texts: a list with filters that a person labels by keys, and one text with everything that is known of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request
from fastapi.responses import RedirectResponse, Response

from factory.distill.mixture.keep import about
from factory.errors import InputError
from factory.pipeline.look import LOOKS, student_looks
from factory.programs.blocks import RUNNABLE, AcceptedProgram
from factory.programs.reasons import python_words, rule_words
from factory.programs.sandbox.host.pool import shared_pool
from factory.review import stage
from factory.review.texts import SHOWS, SPLITS, Wanted, find_near, find_texts, meant, standing
from factory.studio.views import Form, Posted, back_to, is_part, link, number, pieces
from factory.warehouse.tables.evidence import MOST_EDGES
from factory.warehouse.tables.lineage import walk
from factory.warehouse.tables.programs import accepted

if TYPE_CHECKING:
    from factory.studio.desk import Desk
    from factory.studio.views import Views

PAGE = 50
MOST_AT_ONCE = 1000
"""Texts that one answer may be given to."""


def add_to(app: FastAPI, views: Views) -> None:
    """Add these pages."""
    desk = views.desk

    @app.get("/texts")
    def texts(
        request: Request, show: str = "all", label: str = "", program: str = "", find: str = "", like: str = "",
        split: str = "train", page: str = "1",
    ) -> Response:  # fmt: skip
        wanted = _wanted(split, "all" if show in LOOKS else show, label, program, find)
        if show in LOOKS:
            among = desk.kept(("look", show), lambda: student_looks(desk.warehouse, show, sandbox=desk.sandbox))  # type: ignore[arg-type]
            wanted = replace(wanted, among=among)
        if like.strip():
            wanted = replace(wanted, among=meant(desk.warehouse, like.strip()[:1000]))
        at = max(number(page, "page"), 1)
        with desk.warehouse.read():  # the file is opened once
            found = find_texts(desk.warehouse, wanted, first=(at - 1) * PAGE, count=PAGE)
            programs, choices = accepted(desk.warehouse), _choices(desk)
        asked = {"split": split if split != "train" else "", "show": show if show != "all" else "", "label": label,
                 "program": program, "find": find, "like": like.strip()}  # fmt: skip
        does = desk.command(
            "texts", "RUN", *(word for name, value in asked.items() if value for word in (f"--{name}", value))
        )
        return views.page(
            request, "texts", part="_texts", found=found, wanted=wanted, asked=asked, page=at, pages=-(-found["total"] // PAGE),
            shows=SHOWS | LOOKS, shown=show, splits=SPLITS, programs=programs, does=does, most=MOST_AT_ONCE,
            back=link("/texts", **asked, page=at if at > 1 else ""), **choices,
        )  # fmt: skip

    @app.post("/texts/label")
    def label_one(request: Request, form: Posted) -> Response:
        text_no = form.number("text_no")
        with desk.writing() as warehouse:
            stage.label_texts(warehouse, {text_no: _given(form)}, annotator=desk.person)
        if is_part(request):
            with desk.warehouse.read():
                found, choices = find_texts(desk.warehouse, Wanted(number=text_no), count=1), _choices(desk)
            return views.page(
                request, "texts", part="_text_done", text=found["texts"][0], wanted=Wanted(),
                back=back_to(form, "/texts"), **choices,
            )  # fmt: skip
        return RedirectResponse(back_to(form, "/texts"), 303)

    @app.post("/texts/all")
    def label_all(request: Request, form: Posted) -> Response:
        """One answer for every text of a list, after its count was confirmed."""
        wanted = _wanted(*(form[name] for name in ("split", "show", "only_label", "program", "find")))
        found = find_texts(desk.warehouse, wanted, count=MOST_AT_ONCE + 1)
        total, given = found["total"], _given(form)
        if total > MOST_AT_ONCE:
            raise InputError(
                f"these are {total:,} texts, and at most {MOST_AT_ONCE:,} are labelled at once", fix="Filter them"
            )
        if form["count"] != str(total):
            raise InputError(f"the list holds {total} texts by now, and {form['count'][:12] or 'nothing'} was confirmed",
                             fix="Look at it again")  # fmt: skip
        with desk.writing() as warehouse:
            stage.label_texts(warehouse, {text["text_no"]: given for text in found["texts"]}, annotator=desk.person)
        return views.done(
            request, f"{total} texts were labelled: {', '.join(given) or 'none'}.", back_to(form, "/texts")
        )

    @app.post("/texts/undo")
    def undo(request: Request, form: Posted) -> Response:
        with desk.writing() as warehouse:
            undone = stage.undo_labels(warehouse, annotator=desk.person)["texts"]
        which = f"Text {undone[0]}" if len(undone) == 1 else f"{len(undone)} texts"
        to = back_to(form, "/texts") + (f"#text-{undone[0]}" if len(undone) == 1 else "")
        return views.done(request, f"{which}: your last answer was taken back.", to)

    @app.get("/texts/{text_no}")
    def text(request: Request, text_no: int, words: str = "") -> Response:
        with desk.warehouse.read():
            found = stage.evidence(desk.warehouse, text_no, lineage=False)
            lists = accepted(desk.warehouse, kinds=("rules",))
            choices = _choices(desk)
        on = _words(desk, found, python=bool(words))
        for vote, each in zip(found["votes"], on, strict=True):
            vote["on"] = each
            vote["about"] = about(vote["source"]) if vote["kind"] == "python" else ""
        marks = [(word, vote["name"]) for vote in found["votes"] for word in vote["on"]]
        found["votes"].sort(key=lambda vote: -(vote["odds"] or 0))
        in_train = any(place["split"] == "train" for place in found["places"])
        more = not words and any(vote["kind"] == "python" for vote in found["votes"])
        return views.page(
            request, "text", part="_votes", found=found, shown=pieces(found["text"], marks), may_label=in_train,
            back=f"/texts/{text_no}", lists=lists, more=more, may_ask=desk.pipeline is not None,
            does=desk.command("text", "RUN", text_no), **choices,
        )  # fmt: skip

    @app.get("/texts/{text_no}/near")
    def near(request: Request, text_no: int) -> Response:
        """Texts whose vectors are nearest."""
        texts = find_near(desk.warehouse, text_no)
        return views.page(request, "near", part="_near", near=texts, text_no=text_no,
                          does=desk.command("texts", "RUN", "--near", text_no))  # fmt: skip

    @app.get("/texts/{text_no}/lineage")
    def lineage(request: Request, text_no: int) -> Response:
        edges = walk(desk.warehouse, "text", str(text_no), down=False, limit=MOST_EDGES)
        return views.page(request, "lineage", part="_lineage", edges=edges, text_no=text_no,
                          does=desk.command("lineage", "RUN", "text", text_no))  # fmt: skip


def _choices(desk: Desk) -> dict[str, Any]:
    card = desk.card()
    return {
        "labels": card.label_names, "multi": card.kind == "multi", "standing": standing(desk.warehouse, desk.person),
        "meanings": {one.name: one.description for one in card.labels},
    }  # fmt: skip


def _wanted(split: str, show: str, label: str, program: str, find: str) -> Wanted:
    if len(find) > 1000:
        raise InputError("at most 1,000 characters are looked for")
    return Wanted(split, show, label or None, number(program, "program") if program else None, find)


def _given(form: Form) -> Sequence[str]:
    return [label for label in dict.fromkeys(form.all("label")) if label]


def _words(desk: Desk, found: Mapping[str, Any], *, python: bool) -> list[list[str]]:
    """The words of a text on which each of its votes rests; those of Python programs only if asked for, as they are run."""
    names = desk.names()
    at = [place for place, vote in enumerate(found["votes"]) if vote["kind"] in RUNNABLE]
    programs, votes = [], []
    for vote in (found["votes"][place] for place in at):
        programs.append(AcceptedProgram(vote["program_no"], vote["source"], vote["target"], vote["kind"], vote["name"]))
        votes.append(vote["vote"])
    on = rule_words(programs, votes, found["text"], names)
    if python:
        pool = shared_pool(sandbox=desk.sandbox)
        on = [a or b for a, b in zip(on, python_words(pool, programs, votes, found["text"], names), strict=True)]
    by_place = dict(zip(at, on, strict=True))
    return [by_place.get(place, []) for place in range(len(found["votes"]))]
