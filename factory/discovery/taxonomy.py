"""Proposals and labels: what answers say, and what joining and revising makes of them. Nothing here asks or stores."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from factory.card_labels import OTHER
from factory.llm.request import ParseFailure
from factory.names import nfc
from factory.prompts.render import neutral

LEFT_OUT = 0.05
"""Of the proposals so many may be missing in the answer that joins them; more, and it is asked again."""
_LONGEST_NAME, _LONGEST_MEANING = 60, 400


@dataclass(frozen=True)
class Kind:
    """A kind of text: proposed for a batch, or a label of all.

    Attributes:
        name: Words joined by underscores.
        meaning: One sentence.
        texts: The texts that it was proposed for, by their positions.
        proposals: From how many proposals it was joined.
        mixed: Whether the model found that the texts it was shown belong to several labels.
    """

    name: str
    meaning: str
    texts: tuple[int, ...]
    proposals: int = 1
    mixed: bool = False


@dataclass(frozen=True)
class Joined:
    """What joining made of proposals.

    Attributes:
        labels: In the order of the answer.
        dropped: Proposals that were dropped.
        forgotten: Proposals that stand nowhere in the answer; their texts have no label.
    """

    labels: tuple[Kind, ...]
    dropped: tuple[Kind, ...] = ()
    forgotten: tuple[Kind, ...] = ()


def proposed(answer: Mapping[str, Any], batch: Sequence[int]) -> list[Kind]:
    """The proposals in an answer of the prompt `discover_labels`.

    A text that stands under two labels has the first; one that stands nowhere has none.

    Args:
        answer: As it was parsed.
        batch: The positions of the texts that were shown as 1, 2, ...

    Raises:
        ParseFailure: A number that no text has.
    """
    taken: set[int] = set()
    found = []
    for label in answer["labels"]:
        numbers = _numbers(label["texts"], len(batch))
        mine = [number for number in dict.fromkeys(numbers) if number not in taken]
        taken.update(mine)
        if mine:
            texts = tuple(batch[number - 1] for number in mine)
            found.append(Kind(name_of(label["name"]), meaning_of(label["meaning"]), texts))
    return found


def joined(answer: Mapping[str, Any], proposals: Sequence[Kind]) -> Joined:
    """What an answer of the prompt `join_labels` makes of proposals.

    A proposal that stands under two labels belongs to the first.

    Raises:
        ParseFailure: A number that no proposal has, a label of several without name and meaning, or too many left out.
    """
    left = dict(enumerate(proposals, 1))
    labels: dict[str, Kind] = {}
    for label in answer["labels"]:
        numbers = _numbers(label["from"], len(proposals))
        parts = [left.pop(number) for number in dict.fromkeys(numbers) if number in left]
        if not parts:
            continue
        if len(parts) > 1 and not ("name" in label and "meaning" in label):
            raise ParseFailure(
                "wrong_shape", f"The label from {label['from']} joins several: it needs name and meaning."
            )
        largest = max(parts, key=lambda one: len(one.texts))
        made = united(label.get("name", largest.name), label.get("meaning", largest.meaning), parts)
        labels[made.name] = united(made.name, made.meaning, [labels[made.name], made]) if made.name in labels else made
    dropped = [left.pop(number) for number in _numbers(answer.get("dropped", ()), len(proposals)) if number in left]
    if len(left) > LEFT_OUT * len(proposals) + 1:
        missing = ", ".join(map(str, list(left)[:40]))
        raise ParseFailure("wrong_shape", f"Every number stands once in the answer; these are missing: {missing}.")
    return Joined(tuple(labels.values()), tuple(dropped), tuple(left.values()))


def united(name: str, meaning: str, parts: Sequence[Kind]) -> Kind:
    """One label out of several."""
    texts = tuple(dict.fromkeys(text for part in parts for text in part.texts))
    count, mixed = sum(part.proposals for part in parts), any(part.mixed for part in parts)
    return Kind(name_of(name), meaning_of(meaning), texts, count, mixed)


def revised(labels: Sequence[Kind], answer: Mapping[str, Any], unfit: Sequence[int]) -> tuple[list[Kind], list[str]]:
    """What an answer of the prompt `revise_labels` makes of labels.

    Args:
        labels: As they stand.
        answer: As it was parsed.
        unfit: The positions of the texts that were shown as 1, 2, ...

    Returns:
        The labels, and what was changed in words for a person.

    Raises:
        ParseFailure: A label in two changes, a number that no text has, or a name taken twice.
    """
    by_name = {label.name: label for label in labels}
    gone: set[str] = set()
    says = []
    for change in answer.get("join", ()):
        names = list(dict.fromkeys(change["labels"]))
        if gone & set(names) or OTHER in names or len(names) < 2:
            raise ParseFailure(
                "wrong_shape", f"{', '.join(names)} cannot be joined: each label is in one change alone."
            )
        gone |= set(names)
        made = united(change["name"], change["meaning"], [by_name[name] for name in names])
        by_name = {name: one for name, one in by_name.items() if name not in names}
        if made.name in by_name:
            raise ParseFailure("wrong_shape", f"There is a label {made.name} already.")
        by_name[made.name] = made
        says.append(f"joined after the check: {', '.join(names)} -> {made.name}")
    for change in answer.get("reword", ()):
        name = change["label"]
        if name in by_name and name not in gone:
            by_name[name] = replace(by_name[name], meaning=meaning_of(change["meaning"]))
            says.append(f"reworded after the check: {name}")
    for change in answer.get("add", ()):
        texts = tuple(unfit[number - 1] for number in _numbers(change.get("texts", ()), len(unfit)))
        new = Kind(name_of(change["name"]), meaning_of(change["meaning"]), texts)
        if new.name in by_name:
            raise ParseFailure("wrong_shape", f"There is a label {new.name} already.")
        by_name[new.name] = new
        says.append(f"added after the check, for {len(texts)} texts: {new.name}")
    return list(by_name.values()), says


def name_of(said: str) -> str:
    """A name as words joined by underscores; what stands for the rest is never taken.

    Raises:
        ParseFailure: Nothing of it is a word.
    """
    name = re.sub(r"[\W_]+", "_", nfc(said).lower()).strip("_")[:_LONGEST_NAME].strip("_")
    if not name:
        raise ParseFailure("wrong_shape", "A label has no name.")
    return f"{name}_texts" if name == OTHER else name


def meaning_of(said: str) -> str:
    """A meaning on one line, in which nothing poses as a part of a prompt: it may quote texts of the corpus."""
    return neutral(" ".join(said.split()))[:_LONGEST_MEANING]


def _numbers(given: Sequence[int], most: int) -> list[int]:
    wrong = next((number for number in given if not 1 <= number <= most), None)
    if wrong is not None:
        raise ParseFailure("wrong_shape", f"There is no number {wrong}: they go from 1 to {most}.")
    return list(given)
