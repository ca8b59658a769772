"""Pages that begin a run and look after it: the first files of an empty folder, the pipeline, start, stop, go on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request
from fastapi.responses import RedirectResponse, Response

from factory.errors import FactoryError, InputError
from factory.pipeline import edit
from factory.pipeline.load import still_to_do
from factory.pipeline.place import place_of, runs_here
from factory.resources import shipped
from factory.studio.views import Posted, is_part

if TYPE_CHECKING:
    from factory.studio.desk import Desk
    from factory.studio.views import Views

MOST_FILES = 200
DATA = (".csv", ".tsv", ".jsonl", ".json", ".parquet", ".pq", ".txt", ".gz", ".zst", ".xz", ".bz2", ".zip")


def add_to(app: FastAPI, views: Views) -> None:
    """Add these pages."""
    desk = views.desk

    @app.get("/")
    def first() -> Response:
        return RedirectResponse("/programs" if desk.begun else "/start" if desk.place is None else "/run", 303)

    @app.get("/start")
    def start(request: Request) -> Response:
        if desk.place is not None:
            return RedirectResponse("/run", 303)
        return views.page(request, "start", files=_files(desk.run), runs=runs_here(), home=desk.run.absolute(),
                          does=desk.command("init", "FILE", "--out", str(desk.run)))  # fmt: skip

    @app.post("/start")
    def begin(request: Request, form: Posted) -> Response:
        from factory.corpus.init import write_start

        if desk.place is not None:
            raise InputError("there is a pipeline already", where=desk.pipeline)
        names = [name.strip() for name in form["labels"].split(",") if name.strip()]
        if not form["file"].strip():
            raise InputError("say which file holds the texts")
        written = write_start(
            desk.run / Path(form["file"].strip()).expanduser(), desk.run, text=form["text"].strip() or None,
            label=form["label"].strip() or None, labels=names or None,
        )  # fmt: skip
        desk.place = place_of(desk.run)
        for line in written["says"]:
            desk.tell(line)
        return views.done(request, f"Written: {written['task']} and {written['pipeline']}.", "/card")

    @app.get("/run")
    def run(request: Request) -> Response:
        if desk.place is None and not desk.begun:
            return RedirectResponse("/start", 303)
        told = {"job": desk.runner.standing(desk.folder), "busy": desk.busy, **_progress(desk)}
        more = {} if is_part(request) else _about(desk)
        return views.page(request, "run", part="_run", **told, **more)

    @app.post("/run/start")
    def run_start(request: Request, form: Posted) -> Response:
        budget = form["budget"].strip()
        todo = still_to_do(desk.loaded())
        if todo:
            raise InputError(
                "; ".join(todo), fix="The page `Card` has the meanings, and the pipeline below names the model"
            )
        desk.begin("run", *(["--budget", budget] if budget else []))
        return views.done(request, "The run has begun.", "/run")

    @app.post("/run/stop")
    def run_stop(request: Request) -> Response:
        if desk.runner.pid is None:
            raise InputError("nothing that was begun here is at work")
        desk.runner.stop()
        return views.done(request, "The run was stopped. Run it again to go on: no answer is paid for twice.", "/run")

    @app.post("/run/pipeline")
    def pipeline(request: Request, form: Posted) -> Response:
        path = desk.pipeline
        if path is None:
            raise InputError("it is not known which pipeline this run is of")
        if desk.runner.pid is not None:
            raise InputError("the run is at work", fix="Stop it, or wait until it has ended")
        edit.save_pipeline(path, form["pipeline"], desk.settings)
        if not desk.begun:  # its name is the folder's
            desk.place = place_of(desk.run, desk.own_folder)
        return views.done(request, f"{path.name} is written.", "/run")


def _files(folder: Path) -> list[str]:
    """Files of a folder that may hold texts."""
    found = (file.name for file in sorted(folder.iterdir()) if file.is_file() and file.suffix.lower() in DATA)
    return [name for _, name in zip(range(MOST_FILES), found, strict=False)]


def _about(desk: Desk) -> dict[str, Any]:
    """What there is to say of the pipeline: its file, its text where that may be changed, what is still to be filled in."""
    path, todo, fault, text = desk.pipeline, tuple[str, ...](), None, None
    if path is not None:
        try:
            todo = still_to_do(desk.loaded())
        except FactoryError as error:
            fault = str(error)
        if not path.resolve().is_relative_to(shipped("pipelines").resolve()):
            text = path.read_text("utf-8", "replace")
    does = desk.command(*desk.words("run"))
    return {"pipeline": path, "text": text, "todo": todo, "pipeline_fault": fault, "does": does}


def _progress(desk: Desk) -> dict[str, Any]:
    """Runs, steps, spending, drops and what requests were refused with."""
    if not desk.begun:
        return {name: [] for name in ("runs", "steps", "spend", "dropped", "faults", "slots")}
    with desk.warehouse.read():
        ask = desk.warehouse.query
        return {
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
