"""Changing the files that a person wrote: the task card, whose revisions the warehouse keeps, and the pipeline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from factory.errors import InputError, WarehouseError
from factory.files.replace import replaced
from factory.pipeline.load import load_pipeline
from factory.pipeline.preview import plan_pipeline
from factory.resources import shipped
from factory.task import TaskCard, as_yaml, load_card, read_yaml, register

if TYPE_CHECKING:
    from factory.pipeline.load import Pipeline
    from factory.warehouse.file import Warehouse


def card_file(pipeline: Path) -> Path:
    """The file that holds a pipeline's card.

    Raises:
        InputError: The card stands in the pipeline itself, or is one that comes with the package.
    """
    data, _ = read_yaml(pipeline)
    task = data.get("task") if isinstance(data, Mapping) else None
    if not isinstance(task, str):
        raise InputError("the card stands in the pipeline itself", where=pipeline, fix="Change it there")
    path = pipeline.parent / task
    refuse_shipped(path)
    return path


def refuse_shipped(path: Path) -> None:
    """Refuse to change a file that comes with the package.

    Raises:
        InputError: It does.
    """
    if path.resolve().is_relative_to(shipped("pipelines").resolve()):
        fix = "Copy the pipeline and its card into a folder of your own, and run that"
        raise InputError("this file comes with label-factory and stays as it is", where=path, fix=fix)


def edited(
    card: TaskCard, *, text: str | None = None, guidelines: str | None = None, meanings: Mapping[str, str] | None = None,
    added: Mapping[str, str] | None = None, was: Mapping[str, Sequence[str]] | None = None,
) -> TaskCard:  # fmt: skip
    """A card with other words.

    Args:
        card: As it is.
        text: What a text is.
        guidelines: How to decide hard cases.
        meanings: Other descriptions, by label.
        added: New labels with their descriptions, in order.
        was: What texts of a new label were called until now: those labels alone are asked again.

    Raises:
        InputError: An unknown label, one that is there already, or words that cannot be a card.
    """
    given = card.model_dump(mode="json", by_alias=True)
    labels = {label["name"]: label for label in given["labels"]}
    for name, words in (meanings or {}).items():
        if name not in labels:
            raise InputError(f"there is no label {name!r} to change", fix="A new one is added")
        labels[name]["description"] = words.strip()
    for name, words in (added or {}).items():
        if name in labels:
            raise InputError(f"label {name!r} is there already")
        labels[name] = {"name": name, "description": words.strip(), "was": list((was or {}).get(name, ()))}
        unknown = [old for old in labels[name]["was"] if old not in card.label_names]
        if unknown:
            raise InputError(f"there is no label {unknown[0]!r} that texts of {name!r} were called")
    given |= {"labels": list(labels.values())}
    given |= {key: words.strip() for key, words in (("text", text), ("guidelines", guidelines)) if words is not None}
    return load_card(given, where="the card")


def price(pipeline: Pipeline, card: TaskCard, *, folder: Path) -> dict[str, Any]:
    """What `plan_pipeline` gives for another card: what would be asked again. Nothing is changed."""
    return plan_pipeline(replace(pipeline, card=card), folder=folder)


def save_card(pipeline: Pipeline, card: TaskCard, warehouse: Warehouse | None) -> dict[str, Any]:
    """Write a card where the pipeline names it, and store it as the newest revision; label numbers are append-only.

    A card in the file that the warehouse has not seen yet becomes a revision first, so that nothing is lost.

    Args:
        pipeline: Whose card it is.
        card: The new one.
        warehouse: The run's, or None before there is one.

    Returns:
        `path`, `revision`, and `changed` (False where it was so already).

    Raises:
        InputError: See `card_file`.
        WarehouseError: The file cannot be written.
    """
    if pipeline.path is None:
        raise InputError("there is no pipeline file")
    path = card_file(pipeline.path)
    if card.revision == pipeline.card.revision:
        return {"path": str(path), "revision": card.revision, "changed": False}
    if warehouse is not None:
        register(warehouse, pipeline.card)
    try:
        with replaced(path) as draft:
            draft.write_text(as_yaml(card), encoding="utf-8")
    except OSError as error:
        raise WarehouseError(f"cannot be written: {error.strerror}", where=path) from error
    if warehouse is not None:
        register(warehouse, card)
    return {"path": str(path), "revision": card.revision, "changed": True}


def revisions(warehouse: Warehouse) -> list[dict[str, Any]]:
    """Revisions of the card, the newest first: `task_no`, `at`, and the `card`."""
    rows = warehouse.query("SELECT task_no, created_at::VARCHAR, card::VARCHAR FROM tasks ORDER BY task_no DESC")
    return [{"task_no": no, "at": at, "card": TaskCard.model_validate_json(card)} for no, at, card in rows]


def earlier_card(warehouse: Warehouse, card: TaskCard, task_no: int | None = None) -> TaskCard:
    """The revision of that number, or the newest that is another than `card`.

    Raises:
        InputError: There is none.
    """
    for one in revisions(warehouse):
        if (task_no is None and one["card"].revision != card.revision) or one["task_no"] == task_no:
            found: TaskCard = one["card"]
            return found
    what = (
        "there is no earlier revision of the card" if task_no is None else f"there is no revision {task_no} of the card"
    )
    raise InputError(what, where=warehouse.path)


def save_pipeline(path: Path, text: str, settings: Mapping[str, str] | None = None) -> Pipeline:
    """Write a pipeline file, once it can be read as one.

    Raises:
        InputError: It cannot be used, with the line; or it comes with the package.
        WarehouseError: It cannot be written.
    """
    refuse_shipped(path)
    try:
        with replaced(path) as draft:
            draft.write_text(text, encoding="utf-8")
            try:
                load_pipeline(draft, settings)
            except InputError as error:
                where = (error.where or "").replace(str(draft.absolute()), str(path)).replace(str(draft), str(path))
                raise InputError(error.what, where=where or path, fix=error.fix) from error
    except OSError as error:
        raise WarehouseError(f"cannot be written: {error.strerror}", where=path) from error
    return load_pipeline(path, settings)
