"""Pages of what a run came to: its report, and trying the exported model."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, Response

from factory.errors import InputError
from factory.evaluation.record import WORDS, summary
from factory.pipeline.look import export_of
from factory.predict.decide import Asked, Judge
from factory.predict.exported import Exported
from factory.predict.left_out import words_that_matter
from factory.predict.load import load_export
from factory.studio.guard import REPORT_POLICY
from factory.studio.views import Posted
from factory.warehouse.tables.texts import texts_of

if TYPE_CHECKING:
    from factory.studio.desk import Desk
    from factory.studio.views import Views

MOST_TRIED, MOST_EXPLAINED = 50, 10
"""Texts that are answered at once, and those of which a compact export tells the words: it answers once for each word."""


def add_to(app: FastAPI, views: Views) -> None:
    """Add these pages."""
    desk = views.desk
    loaded: dict[tuple[str, int], Exported] = {}

    @app.get("/report")
    def report(request: Request, gold: str = "", said: str = "") -> Response:
        with desk.warehouse.read():
            found = summary(desk.warehouse)
            student = _student(desk, found)
        page = desk.folder / "report.html"
        texts = None
        if gold and student:
            numbers = [
                no for cell in student["cells"] if (cell["gold"], cell["said"]) == (gold, said) for no in cell["texts"]
            ]
            texts = texts_of(desk.warehouse, numbers)
        return views.page(
            request, "report", found=found, words=WORDS[found["metric"]] if found else "", student=student, there=page.is_file(),
            gold=gold, said_label=said, texts=texts, does=desk.command("report", "RUN"),
        )  # fmt: skip

    @app.get("/report/page")
    def report_page() -> Response:
        page = desk.folder / "report.html"
        if not page.is_file():
            raise InputError(
                "there is no report yet",
                fix="The last step of a run writes it, and `factory report RUN` writes it again",
            )
        return HTMLResponse(page.read_bytes(), headers={"content-security-policy": REPORT_POLICY})

    @app.get("/try")
    def try_page(request: Request) -> Response:
        return views.page(request, "try", texts="", results=None, export=export_of(desk.warehouse), does="")

    @app.post("/try")
    def try_texts(request: Request, form: Posted) -> Response:
        texts = [line.strip() for line in form["texts"].split("\n") if line.strip()]
        folder = export_of(desk.warehouse)
        if folder is None:
            raise InputError("nothing was exported yet", fix="The step `export` writes a model")
        if not 0 < len(texts) <= MOST_TRIED or any(len(text) > 20_000 for text in texts):
            raise InputError(f"paste 1 to {MOST_TRIED} texts, a line each, of up to 20,000 characters")
        key = (str(folder), (folder / "manifest.json").stat().st_mtime_ns)
        if key not in loaded:
            loaded.clear()
            loaded[key] = load_export(folder, sandbox=desk.sandbox, threads=1)
        results = _answers(loaded[key], texts)
        return views.page(request, "try", texts=form["texts"], results=results, export=folder,
                          does=desk.command("predict", str(folder), "texts.txt", "--out", "labelled.csv"))  # fmt: skip


def _answers(model: Exported, texts: list[str]) -> list[dict[str, Any]]:
    """What an export says of texts: label, probabilities, and the reasons if it is a glass box."""
    why = model.kind == "glass_box"
    judge = Judge(model, Asked(None, None, None, None, why))
    probs, *behind = (model.explain if why else model.answer)(texts)
    results = []
    words: list[list[tuple[str, float]]] = [[] for _ in texts]
    if not why and len(texts) <= MOST_EXPLAINED:
        words = words_that_matter(model, texts, probs)
    for text, said, row, rests in zip(texts, judge(probs, *behind), probs, words, strict=True):
        shares = sorted(zip(model.labels, map(float, row), strict=True), key=lambda one: -one[1])[:5]
        results.append({"text": text, "label": said.get("label") or ", ".join(said.get("labels", ())) or "none",
                        "shares": shares, "why": said.get("why"), "rests": rests})  # fmt: skip
    return results


def _student(desk: Desk, found: Any) -> dict[str, Any] | None:
    """The student's figures by label and its confusion, with names in place of numbers."""
    if not found:
        return None
    rows = desk.warehouse.query(
        "SELECT system, detail::VARCHAR FROM evaluations WHERE variant = 'published' AND detail IS NOT NULL"
        " AND evaluation_no = (SELECT max(evaluation_no) FROM evaluations) ORDER BY system <> 'student', system LIMIT 1"
    )
    if not rows:
        return None
    detail, names = json.loads(rows[0][1]), desk.names()

    def named(value: Any) -> str:
        return (
            "no label" if value is None else names[value] if not isinstance(value, bool) else ("yes" if value else "no")
        )

    cells = [
        {**cell, "gold": named(cell["gold"]), "said": named(cell["said"])}
        for cell in detail.get("cells", ())
        if "label" not in cell
    ]
    return {"system": rows[0][0], "per_class": detail.get("per_class") or {}, "cells": cells,
            "wrong": sorted((c for c in cells if c["gold"] != c["said"]), key=lambda c: -c["n"])}  # fmt: skip
