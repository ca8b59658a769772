"""What a discovery writes: the card, the pipeline, the texts with their labels, and the page of what was found."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from factory.card_labels import NONE_FITS, OTHER
from factory.errors import InputError
from factory.files.replace import replaced
from factory.prompts.render import neutral
from factory.task import Label, TaskCard, as_yaml

if TYPE_CHECKING:
    from factory.discovery.review import Check
    from factory.discovery.taxonomy import Joined, Kind

CARD, LINE, TEXTS, PAGE = "task.yaml", "pipeline.yaml", "texts.csv", "discovery.md"
EXAMPLES, LONGEST_EXAMPLE = 2, 150
"""Short texts that the card shows of a label."""
FEW = 2
"""A label of no more texts than this is unsure."""
OFF = 0.25
"""A number of labels that misses the one asked for by more than this share is told."""


@dataclass(frozen=True)
class Discovery:
    """What was found.

    Attributes:
        labels: The labels, those with the most texts first.
        texts: The texts that were looked at.
        fresh: Of these, the positions of those that proposed nothing.
        proposals: How many labels were proposed.
        joined: What joining made of them.
        check: Fresh texts labelled twice, before revising; None where that was left out.
        changed: What the check changed, in words.
        says: What a person should know of answers that could not be used.
    """

    labels: tuple[Kind, ...]
    texts: tuple[str, ...]
    fresh: tuple[int, ...]
    proposals: int
    joined: Joined
    check: Check | None
    changed: tuple[str, ...] = ()
    says: tuple[str, ...] = ()


def refuse_to_lose(out: Path) -> None:
    """Refuse to write over a card or a pipeline.

    Raises:
        InputError: One is there.
    """
    for name in (CARD, LINE):
        if (out / name).exists():
            fix = "Choose another folder with --out, or move it away"
            raise InputError("this file is there already", where=out / name, fix=fix)


def write_all(
    found: Discovery, out: Path, name: str, line: str, *, kind_of_text: str, purpose: str, asked: int | None
) -> dict[str, Any]:
    """Write everything into `out`.

    Args:
        found: What was found.
        out: The folder.
        name: Of the task.
        line: The text of the pipeline.
        kind_of_text: What a text is.
        purpose: What the labels tell.
        asked: How many labels were asked for, if any number was.

    Returns:
        `task`, `pipeline`, `texts` and `page` (paths), `labels` (name to how many texts it was found in), `found` (figures) and
        `unsure` (lines for a person).
    """
    card, unsure = card_of(found, name, kind_of_text, purpose), unsure_of(found, asked)
    figures = figures_of(found)
    for path, text in (
        (CARD, as_yaml(card)), (LINE, line), (PAGE, _page(found, card, figures, unsure)),
    ):  # fmt: skip
        with replaced(out / path) as draft:
            draft.write_text(text, encoding="utf-8")
    with replaced(out / TEXTS) as draft, draft.open("w", encoding="utf-8", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(["text", "label"])
        rows.writerows([found.texts[at], label] for at, label in sorted(labels_of(found).items()))
    paths = {"task": CARD, "pipeline": LINE, "texts": TEXTS, "page": PAGE}
    sizes = {label.name: len(label.texts) for label in found.labels}
    return {
        **{key: str(out / path) for key, path in paths.items()},
        "labels": sizes,
        "found": figures,
        "unsure": unsure,
    }


def card_of(found: Discovery, name: str, kind_of_text: str, purpose: str) -> TaskCard:
    """The task card, with the label of what is left at its end."""
    labels = [
        Label(name=one.name, description=one.meaning, examples=_examples([found.texts[at] for at in one.texts]))
        for one in found.labels
    ]
    rest = Label(name=OTHER, description=NONE_FITS)
    return TaskCard(
        name=name, text=kind_of_text, labels=(*labels, rest), guidelines=f"The labels tell {purpose.rstrip('.')}."
    )


def labels_of(found: Discovery) -> dict[int, str]:
    """The label of each text that has one: where it was found, or where both readings of a fresh text agree."""
    said = {at: label.name for label in found.labels for at in label.texts}
    names = {label.name for label in found.labels}
    agreed = {} if found.check is None else found.check.agreed
    return {**{at: name for at, name in agreed.items() if name in names}, **said}


def figures_of(found: Discovery) -> dict[str, Any]:
    """Counts and shares; None where nothing was checked."""
    proposing = len(found.texts) - len(found.fresh)
    labelled = {at for label in found.labels for at in label.texts} - set(found.fresh)
    check = found.check
    return {
        "texts": len(found.texts), "labels": len(found.labels), "proposals": found.proposals,
        "labelled": len(labelled) / proposing if proposing else None,
        "checked": None if check is None else len(check.both),
        "coverage": None if check is None else check.coverage,
        "agreement": None if check is None else check.agreement,
        "unseen": sum(len(label.texts) == 1 for label in found.labels) / proposing if proposing else None,
    }  # fmt: skip


def unsure_of(found: Discovery, asked: int | None) -> list[str]:
    """What a person should look at before the card is used."""
    figures, check = figures_of(found), found.check
    lines = []
    if asked is not None and abs(len(found.labels) - asked) > OFF * asked:
        lines.append(f"{len(found.labels)} labels were found where {asked} were asked for")
    few = [label.name for label in found.labels if len(label.texts) <= FEW]
    if few:
        lines.append(f"labels found in no more than {FEW} texts each: {', '.join(few)}")
    mixed = [label.name for label in found.labels if label.mixed]
    if mixed:
        lines.append(f"labels of clusters whose texts seemed to belong to several labels: {', '.join(mixed)}")
    if check is not None and check.both:
        n = len(check.both)
        lines.append(
            f"{n} fresh texts were labelled twice: {figures['agreement']:.0%} got the same label, {figures['coverage']:.0%} of"
            " the answers gave a label other than the last (one model agrees with itself more than people do)"
        )
        lines += [f"torn between {one} and {two}: {_times(count)}" for (one, two), count in check.pairs[:20]]
        lines += [f'no label fitted: "{_short(found.texts[at])}"' for at in check.unfit[:10]]
    if figures["unseen"]:
        lines.append(
            f"about {figures['unseen']:.1%} of further texts are of kinds that these texts did not show (Good 1953)"
        )
    for kinds, what in ((found.joined.dropped, "dropped"), (found.joined.forgotten, "forgotten")):
        if kinds:
            texts = sum(len(one.texts) for one in kinds)
            told = ", ".join(one.name for one in kinds[:12])
            count = "one proposal was" if len(kinds) == 1 else f"{len(kinds)} proposals were"
            lines.append(f"{count} {what} in joining, texts: {texts}: {told}")
    if check is None:
        lines.append("no fresh text was labelled: how well the labels fit is not known")
    return lines


def _page(found: Discovery, card: TaskCard, figures: Mapping[str, Any], unsure: list[str]) -> str:
    rows = [
        f"| {label.name} | {len(label.texts)} | {label.proposals} | {_cell(label.meaning)} |" for label in found.labels
    ]
    told = "\n".join(f"- {_cell(line)}" for line in unsure)
    changed = "".join(f"- {_cell(line)}\n" for line in found.changed)
    return (
        f"# Labels found in {len(found.texts):,} texts\n\n"
        f"{figures['proposals']} labels were proposed, and {figures['labels']} are left. Read them before anything is labelled: "
        f"`{CARD}` is the card.\n\n## What is unsure\n\n{told}\n\n"
        + (f"## What the check changed\n\n{changed}\n" if changed else "")
        + f"## Labels\n\n| label | texts | proposals | meaning |\n|---|---|---|---|\n{chr(10).join(rows)}\n"
    )


def _examples(texts: list[str]) -> tuple[str, ...]:
    """Short texts that could stand in a prompt as they are."""
    shown = (" ".join(text.split()) for text in texts)
    fit = [text for text in shown if len(text) <= LONGEST_EXAMPLE and neutral(text) == text and '"' not in text]
    return tuple(dict.fromkeys(fit))[:EXAMPLES]


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _short(text: str) -> str:
    bare = " ".join(text.split())
    return bare if len(bare) <= 100 else f"{bare[:97]}..."


def _times(count: int) -> str:
    return "one text" if count == 1 else f"{count} texts"
