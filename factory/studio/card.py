"""Pages of the task card: its words, what a change would cost, and the way back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request
from fastapi.responses import RedirectResponse, Response

from factory.errors import FactoryError, InputError
from factory.pipeline import edit
from factory.studio.views import Form, Posted
from factory.task import TaskCard
from factory.warehouse.tables.labels import counts_by_label

if TYPE_CHECKING:
    from factory.studio.desk import Desk, Undo
    from factory.studio.views import Views

SPARE_LABELS = 2
"""Empty rows for labels that are added at once."""


def add_to(app: FastAPI, views: Views) -> None:
    """Add these pages."""
    desk = views.desk

    @app.get("/card")
    def card(request: Request) -> Response:
        if desk.place is None and not desk.begun:
            return RedirectResponse("/start", 303)
        return views.page(request, "card", **_told(desk, _card(desk)[0]))

    @app.post("/card/price")
    def price(request: Request, form: Posted) -> Response:
        """What a change would cost; nothing is changed."""
        pipeline = desk.loaded()
        wanted = _edited(pipeline.card, form)
        planned = edit.price(pipeline, wanted, folder=desk.folder)
        return views.page(request, "card", part="_price", **_told(desk, wanted) | {"plan": planned})

    @app.post("/card")
    def save(request: Request, form: Posted) -> Response:
        pipeline = desk.loaded()
        return _save(request, _edited(pipeline.card, form))

    @app.post("/card/back")
    def back(request: Request, form: Posted) -> Response:
        """An earlier revision is the card again."""
        return _save(request, edit.earlier_card(desk.warehouse, desk.loaded().card, form.number("task_no")))

    def _save(request: Request, wanted: TaskCard) -> Response:
        with desk.writing_place():
            before = desk.loaded()
            saved = edit.save_card(before, wanted, desk.warehouse if desk.begun else None)
        words = "The card was so already." if not saved["changed"] else (
            f"{saved['path']} is written. Run the pipeline again: only what the change touches is asked again."
        )  # fmt: skip
        return views.done(request, words, "/card", _way_back(desk, before.card) if saved["changed"] else None)


def _way_back(desk: Desk, card: TaskCard) -> Undo | None:
    """The form that makes a card that is on record the card again."""
    for one in edit.revisions(desk.warehouse) if desk.begun else ():
        if one["card"].revision == card.revision:
            return "/card/back", {"task_no": str(one["task_no"])}
    return None


def _card(desk: Desk) -> tuple[TaskCard, str | None]:
    """The card of the pipeline's file, or that of the warehouse and why it cannot be changed here."""
    try:
        pipeline = desk.loaded()
        if pipeline.path is not None:
            edit.card_file(pipeline.path)
    except FactoryError as error:
        if not desk.begun:
            raise
        return desk.card(), str(error)
    return pipeline.card, None


def _edited(card: TaskCard, form: Form) -> TaskCard:
    names, meanings, new, said, was = (
        form.all(name) for name in ("name", "meaning", "new_name", "new_meaning", "new_was")
    )
    if len(names) != len(meanings) or not len(new) == len(said) == len(was):
        raise InputError("the rows of the form are not whole")
    added = {name.strip(): words for name, words in zip(new, said, strict=True) if name.strip()}
    before = {name.strip(): [one] for name, one in zip(new, was, strict=True) if one}
    return edit.edited(
        card, text=form["text"], guidelines=form["guidelines"], meanings=dict(zip(names, meanings, strict=True)), added=added,
        was=before,
    )  # fmt: skip


def _told(desk: Desk, card: TaskCard) -> dict[str, Any]:
    """What the card's page asks for."""
    now, why_not = _card(desk)
    used: dict[str, int] = {}
    history: list[dict[str, Any]] = []
    if desk.begun:
        with desk.warehouse.read():
            names = desk.names()
            used = {names[at]: n for at, n in counts_by_label(desk.warehouse).items()}
            history = edit.revisions(desk.warehouse)
    path = desk.pipeline
    return {
        "card": card, "now": now, "why_not": why_not, "used": used, "revisions": history, "plan": None, "spare": SPARE_LABELS,
        "file": edit.card_file(path) if path is not None and why_not is None else None,
        "does": desk.command(*desk.words("card edit")),
    }  # fmt: skip
