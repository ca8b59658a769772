"""A sharper wording of two labels that people and the model read apart: asked of the model, suggested, never applied."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from factory import prompts
from factory.errors import InputError
from factory.evaluation.definitions import definitions_of
from factory.files.replace import replaced
from factory.llm.request import Failure, ParseFailure
from factory.pipeline.context import Context
from factory.pipeline.lock import alone_in
from factory.pipeline.preview import plan_pipeline
from factory.prompts.card import card_values
from factory.task import TaskCard, as_yaml, load_card
from factory.warehouse.file import Warehouse

if TYPE_CHECKING:
    from factory.llm.request import Request
    from factory.pipeline.load import Pipeline

STAGE, PROMPT = "sharpen", "sharpen_meanings"


def sharpen(
    pipeline: Pipeline, labels: Sequence[str], *, folder: Path | None = None, out: Path | None = None
) -> dict[str, Any]:
    """Ask the model for new meanings of two labels, and write the card that has them as a suggestion.

    Args:
        pipeline: Whose engine is asked; its run has people's answers on texts of the audit slice.
        labels: The two; none takes the pair that people and the model read apart most surely.
        folder: The run's folder.
        out: The card to write; `NAME.suggested.yaml` in the run's folder by default.

    Returns:
        `{"labels", "texts", "meanings": {label: {"now", "suggested"}}, "path", "plan"}`; `plan` is what `plan_pipeline` gives for
        the suggested card: what would be bought again.

    Raises:
        InputError: People and the model agree on this pair as far as can be told, or nobody answered; or `out` holds something
            else, or the card in use.
        Unanswered: The model did not answer. Run again.
    """
    from factory.llm import Asker

    folder = (folder or Path("factory-runs") / pipeline.name).absolute()
    path = out or folder / f"{pipeline.card.name}.suggested.yaml"
    _refuse_to_lose(path, pipeline.card)
    with alone_in(folder):
        warehouse = Warehouse.open(folder / f"{pipeline.name}.duckdb")
        found = _pair(definitions_of(warehouse), labels)
        context = Context(pipeline.card, folder, pipeline.base, pipeline.engine, pipeline.budget)
        try:
            engine, prompt, pair = context.engine(), prompts.load(PROMPT), list(found["labels"])
            asker = Asker(warehouse, engine, STAGE, context.spending())

            def parse(_: Request, text: str) -> Mapping[str, str]:
                told = {
                    one["label"]: " ".join(one["meaning"].split())
                    for one in prompt.parse(text, labels=pair)["meanings"]
                }
                if set(told) != set(pair):
                    raise ParseFailure("wrong_shape", "Each of the two labels stands in the answer once.")
                return told

            request = prompt.request(
                sharpen_values(pipeline.card, found), engine.model, sampling=engine.sampling, structured=engine.structured,
                labels=pair,
            )  # fmt: skip
            [answer] = asker.parsed([(request, 0)], parse, again=prompt.ask_again)
            asker.need_all([answer])
        finally:
            context.close()
    if isinstance(answer, Failure):
        raise InputError(f"the model's answer cannot be used: {answer.detail or answer.reason}", where=PROMPT)
    card = with_meanings(pipeline.card, answer.value)
    with replaced(path, private=True) as draft:
        draft.write_text(as_yaml(card), encoding="utf-8")
    told = {name: {"now": pipeline.card.label(name).description, "suggested": answer.value[name]} for name in pair}
    planned = plan_pipeline(replace(pipeline, card=card), folder=folder)
    return {"labels": pair, "texts": len(found["texts"]), "meanings": told, "path": str(path), "plan": planned}


def sharpen_values(card: TaskCard, found: Mapping[str, Any]) -> dict[str, Any]:
    """The inputs of the prompt for a pair, as `definitions_of` gives it."""
    values = card_values(card)
    return {
        **values, "pair": [one for one in values["labels"] if one["name"] in found["labels"]],
        "examples": [{"text": one["text"], "label": one["people"]} for one in found["texts"]],
    }  # fmt: skip


def with_meanings(card: TaskCard, meanings: Mapping[str, str]) -> TaskCard:
    """The card with other descriptions for these labels."""
    labels = [
        label.model_copy(update={"description": meanings.get(label.name, label.description)}) for label in card.labels
    ]
    return card.model_copy(update={"labels": tuple(labels)})


def _refuse_to_lose(path: Path, card: TaskCard) -> None:
    """Refuse to write over what is no suggestion, and over the card that is in use."""
    if not path.exists():
        return
    try:
        there = load_card(path)
    except InputError as error:
        raise InputError("this file is no task card", where=path, fix="Name another one with --out") from error
    if there.revision == card.revision:
        raise InputError("this is the card in use", where=path, fix="Name another file with --out")


def _pair(found: Sequence[Mapping[str, Any]], labels: Sequence[str]) -> Mapping[str, Any]:
    if not labels and found:
        return found[0]
    for one in found:
        if set(one["labels"]) == set(labels):
            return one
    known = ", ".join(" and ".join(one["labels"]) for one in found)
    words = f"on {' and '.join(labels)} people and the model do not differ beyond chance" if labels else (
        "people and the model do not differ on any pair of labels beyond chance"
    )  # fmt: skip
    fix = f"They differ on {known}" if known else (
        "Have more of the audit slice answered: factory ask RUN --strategy audit --budget 50 --out audit.csv"
    )  # fmt: skip
    raise InputError(words, fix=fix)
