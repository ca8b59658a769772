"""The rounds of a discovery. The requests of a round do not depend on one another, so they can be answered all at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from factory import prompts
from factory.card_labels import NONE_FITS, OTHER
from factory.discovery import taxonomy
from factory.discovery.review import Check, split_in_two
from factory.discovery.taxonomy import Joined, Kind
from factory.llm.request import Failure, ParseFailure

if TYPE_CHECKING:
    from factory.llm.engines.base import Engine
    from factory.llm.gateway import Asker
    from factory.llm.request import Request

T = TypeVar("T")
AT_ONCE = 400
"""Proposals that are joined by one request; more are joined in groups of neighbours."""


@dataclass
class Rounds:
    """Puts the rounds to a model.

    Attributes:
        asker: Asks, and keeps the answers.
        engine: Whom it asks.
        texts: All texts, of which the rounds speak by their positions.
        kind_of_text: What a text is.
        purpose: What the labels are to tell.
        count: How many labels are wanted; None: as many as there are.
        says: What a person should know of answers that cannot be used.
    """

    asker: Asker
    engine: Engine
    texts: Sequence[str]
    kind_of_text: str
    purpose: str
    count: int | None = None
    says: list[str] = field(default_factory=list)

    def propose(self, batches: Sequence[Sequence[int]]) -> list[Kind]:
        """Labels for each batch apart."""
        count = None if self.count is None else f"The whole collection is to have about {self.count} labels."
        values = [{"purpose": self.purpose, "count": count, "texts": self._shown(batch)} for batch in batches]
        found = self._asked("discover_labels", values, batches, taxonomy.proposed)
        self._tell_lost(sum(one is None for one in found), len(found), "batches of texts have no proposals")
        return [kind for kinds in found for kind in kinds or ()]

    def name(self, groups: Sequence[Sequence[int]], middles: int, beside: Sequence[Sequence[int]]) -> list[Kind]:
        """A label for each cluster, by its first texts."""
        values = [
            {"purpose": self.purpose, "texts": self._shown(group[:middles]), "others": self._shown(others)}
            for group, others in zip(groups, beside, strict=True)
        ]

        def read(answer: Mapping[str, Any], group: Sequence[int]) -> Kind:
            name, meaning = taxonomy.name_of(answer["name"]), taxonomy.meaning_of(answer["meaning"])
            return Kind(name, meaning, tuple(group), mixed=answer["mixed"])

        found = self._asked("name_cluster", values, groups, read)
        self._tell_lost(sum(one is None for one in found), len(found), "clusters have no name")
        return [kind for kind in found if kind is not None]

    def join(self, proposals: Sequence[Kind], groups: Sequence[Sequence[int]]) -> Joined:
        """One list of labels out of proposals.

        Args:
            proposals: All of them.
            groups: Which of them are joined by one request.
        """
        parts = [[proposals[at] for at in group] for group in groups]
        values = []
        for part in parts:
            wanted = None if self.count is None else round(self.count * len(part) / len(proposals))
            count = wanted and f"{wanted}: join or keep apart so that about so many are left."
            lines = [f"{at} ({_texts(len(one.texts))}) {one.name}: {one.meaning}" for at, one in enumerate(part, 1)]
            values.append({"purpose": self.purpose, "count": count, "proposals": lines})
        found = self._asked("join_labels", values, parts, taxonomy.joined)
        self._tell_lost(sum(one is None for one in found), len(found), "groups of proposals stay as they were proposed")
        whole = [one or Joined(_by_name(part)) for one, part in zip(found, parts, strict=True)]
        labels = _by_name([label for one in whole for label in one.labels])
        dropped, forgotten = (
            tuple(kind for one in whole for kind in getattr(one, what)) for what in ("dropped", "forgotten")
        )
        return Joined(labels, dropped, forgotten)

    def check(self, labels: Sequence[Kind], fresh: Sequence[int], size: int, seed: int) -> Check:
        """Label fresh texts twice: in two orders, with the labels listed forwards and backwards."""
        listed = [{"name": label.name, "description": label.meaning} for label in labels]
        names = [*(label.name for label in labels), OTHER]
        ways = split_in_two(fresh, size, seed)
        values = [
            {"labels": [*shown, {"name": OTHER, "description": NONE_FITS}], "texts": self._shown(batch)}
            for shown, way in zip((listed, listed[::-1]), ways, strict=True)
            for batch in way
        ]
        batches = [batch for way in ways for batch in way]

        def read(answer: Mapping[str, Any], batch: Sequence[int]) -> dict[int, str]:
            said = {number: answer["labels"].get(str(number)) for number in range(1, len(batch) + 1)}
            missing = [str(number) for number, name in said.items() if name is None]
            if missing:
                raise ParseFailure("wrong_shape", f"Texts without a label in the answer: {', '.join(missing)}.")
            return {batch[number - 1]: name for number, name in said.items()}

        found = self._asked("label_several", values, batches, read, labels=names)
        self._tell_lost(sum(one is None for one in found), len(found), "batches of fresh texts have no labels")
        half = len(ways[0])
        one, two = (
            {at: name for said in part if said for at, name in said.items()} for part in (found[:half], found[half:])
        )
        return Check(tuple(fresh), tuple(map(one.get, fresh)), tuple(map(two.get, fresh)))

    def revise(self, labels: Sequence[Kind], check: Check) -> tuple[list[Kind], list[str]]:
        """The labels after what the check showed, and what was changed; as they are if it showed nothing."""
        unfit = check.unfit
        if not unfit and not check.torn:
            return list(labels), []
        torn = [{"text": self.texts[text], "label": [one, two]} for text, one, two in check.torn]
        listed = [{"name": label.name, "description": label.meaning} for label in labels]
        count = None if self.count is None else f"about {self.count}"
        values = {"purpose": self.purpose, "labels": listed, "count": count, "torn": torn, "unfit": self._shown(unfit)}

        def read(answer: Mapping[str, Any], numbered: Sequence[int]) -> tuple[list[Kind], list[str]]:
            return taxonomy.revised(labels, answer, numbered)

        names = [label.name for label in labels]
        [found] = self._asked("revise_labels", [values], [unfit], read, labels=names)
        if found is None:
            self.says.append("the labels were not revised after the check: the model's answer cannot be used")
        return found or (list(labels), [])

    # ------------------------------------------------------------------------------------------------------------------
    def _shown(self, which: Sequence[int]) -> list[str]:
        return [self.texts[at] for at in which]

    def _asked(
        self, name: str, values: Sequence[Mapping[str, Any]], about: Sequence[Any],
        read: Callable[[Mapping[str, Any], Any], T], *, labels: Sequence[str] | None = None,
    ) -> list[T | None]:  # fmt: skip
        """What was read of the answer to each request; None where the model's answers cannot be used.

        Raises:
            Pending, BudgetError, Unanswered: As `Asker.ask`; what was answered is stored.
        """
        prompt = prompts.load(name)
        engine = self.engine
        requests = [
            prompt.request(
                {"kind_of_text": self.kind_of_text, **each}, engine.model, sampling=engine.sampling,
                structured=engine.structured, labels=labels,
            )
            for each in values
        ]  # fmt: skip
        by_question = {_question(request): one for request, one in zip(requests, about, strict=True)}

        def parse(request: Request, text: str) -> T:
            return read(prompt.parse(text, labels=labels), by_question[_question(request)])

        found = self.asker.parsed([(request, 0) for request in requests], parse, again=prompt.ask_again)
        self.asker.need_all(found)
        return [None if isinstance(one, Failure) else one.value for one in found]

    def _tell_lost(self, lost: int, of: int, what: str) -> None:
        if lost:
            self.says.append(f"{lost} of {of} {what}: the model's answers cannot be used")


def _question(request: Request) -> str:
    """What was asked first, which a repetition keeps."""
    return "\0".join(message["content"] for message in request.messages[:2])


def _by_name(kinds: Sequence[Kind]) -> tuple[Kind, ...]:
    """Kinds of one name made one."""
    found: dict[str, list[Kind]] = {}
    for kind in kinds:
        found.setdefault(kind.name, []).append(kind)
    return tuple(
        parts[0]
        if len(parts) == 1
        else taxonomy.united(name, max(parts, key=lambda one: len(one.texts)).meaning, parts)
        for name, parts in found.items()
    )


def _texts(count: int) -> str:
    return "1 text" if count == 1 else f"{count} texts"
