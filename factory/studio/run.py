"""Pages of the run as a whole: report, card, what was done and spent, and trying the exported model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, Response

from factory.errors import InputError
from factory.evaluation.record import WORDS, summary
from factory.pipeline.lock import at_work
from factory.predict.decide import Asked, Judge
from factory.predict.exported import Exported
from factory.predict.load import load_export
from factory.studio.guard import REPORT_POLICY
from factory.studio.views import Posted
from factory.warehouse.tables.labels import counts_by_label
from factory.warehouse.tables.texts import texts_of

if TYPE_CHECKING:
    from factory.studio.desk import Desk
    from factory.studio.views import Views

MOST_TRIED = 50


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

    @app.get("/card")
    def card_page(request: Request) -> Response:
        with desk.warehouse.read():
            revisions = desk.warehouse.query(
                "SELECT task_no, revision, created_at::VARCHAR FROM tasks ORDER BY task_no DESC"
            )
            used = counts_by_label(desk.warehouse)
            names = desk.names()
            card = desk.card()
        return views.page(
            request, "card", card=card, revisions=revisions, used={names[at]: n for at, n in used.items()},
            does=desk.command("plan", "RUN"),
        )  # fmt: skip

    @app.get("/run")
    def run(request: Request) -> Response:
        return views.page(request, "run", part="_run", **_progress(desk), does=desk.command("run", "PIPELINE"))

    @app.get("/try")
    def try_page(request: Request) -> Response:
        return views.page(request, "try", texts="", results=None, export=_export(desk), does="")

    @app.post("/try")
    def try_texts(request: Request, form: Posted) -> Response:
        texts = [line.strip() for line in form["texts"].split("\n") if line.strip()]
        folder = _export(desk)
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
    for text, said, row in zip(texts, judge(probs, *behind), probs, strict=True):
        shares = sorted(zip(model.labels, map(float, row), strict=True), key=lambda one: -one[1])[:5]
        results.append({"text": text, "label": said.get("label") or ", ".join(said.get("labels", ())) or "none",
                        "shares": shares, "why": said.get("why")})  # fmt: skip
    return results


def _export(desk: Desk) -> Path | None:
    """The run's own export, wherever the run was moved to, else the newest that is there."""
    rows = desk.warehouse.query("SELECT path FROM exports ORDER BY export_no DESC LIMIT 5")
    places = [Path(path) if Path(path).is_absolute() else desk.folder / path for (path,) in rows]
    return next((place for place in [desk.folder / "export", *places] if (place / "manifest.json").is_file()), None)


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


def _progress(desk: Desk) -> dict[str, Any]:
    """Runs, steps, spending, drops and what requests were refused with."""
    with desk.warehouse.read():
        ask = desk.warehouse.query
        return {
            "busy": at_work(desk.warehouse.folder),
            "runs": ask(
                "SELECT run_no, pipeline, started_at::VARCHAR, ended_at::VARCHAR, status FROM runs ORDER BY 1 DESC LIMIT 10"
            ),
            "steps": [
                (run, stage, skipped, json.loads(did), seconds)
                for run, stage, skipped, did, seconds in ask(
                    "SELECT run_no, stage, skipped, did::VARCHAR, date_diff('second', started_at, ended_at) FROM stage_runs"
                    " ORDER BY run_no DESC, step_no DESC LIMIT 40"
                )
            ],
            "spend": ask(
                "SELECT stage, model, sum(requests), sum(answers), sum(tokens_in), sum(tokens_out), sum(cost),"
                " sum(failed_attempts) FROM spend GROUP BY ALL ORDER BY ALL"
            ),
            "dropped": ask(
                "SELECT stage, drop_reason, count(*), min(item), min(detail) FROM dropped GROUP BY 1, 2 ORDER BY 3 DESC LIMIT 30"
            ),
            "faults": ask(
                "SELECT reason, http_status, words, count(*), max(started_at)::VARCHAR FROM attempts"
                " WHERE outcome NOT IN ('answered', 'partial') GROUP BY ALL ORDER BY 5 DESC LIMIT 10"
            ),
            "slots": ask(
                "SELECT stage, p.plan_no, count(*) FILTER (WHERE state = 'open'), count(*) FILTER (WHERE state = 'accepted'),"
                " count(*) FILTER (WHERE state = 'dropped') FROM plans p JOIN slots USING (plan_no) GROUP BY ALL"
                " ORDER BY 2 DESC LIMIT 20"
            ),
        }  # fmt: skip
