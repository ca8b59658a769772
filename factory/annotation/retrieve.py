"""Cards of many labels: what each text is shown, frozen in its slot; and asking with all labels where that was not enough."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from factory.labels.candidates import WIDE, candidates_of, label_index

if TYPE_CHECKING:
    from factory.annotation.choose import Question
    from factory.encoders.settings import Named
    from factory.labels.index import LabelIndex
    from factory.llm import Asker, Failure, Parsed
    from factory.llm.request import ParseFailure, Request
    from factory.prompts.labelling import Labelling
    from factory.result import Progress
    from factory.task import TaskCard
    from factory.warehouse.file import Warehouse


@dataclass(frozen=True)
class Retrieval:
    """Finds the labels that texts could have.

    Attributes:
        warehouse: Where the texts are.
        card: The labels.
        count: How many of them a text is shown.
        see_all: So many texts of the audit slice are asked with all labels, or the likeliest `WIDE`.
        encoder: For embeddings; None searches by words alone.
        progress: Called with (done, total, what).
    """

    warehouse: Warehouse
    card: TaskCard
    count: int
    see_all: int
    encoder: Named | None
    progress: Progress

    @cached_property
    def _index(self) -> LabelIndex:
        return label_index(self.warehouse, self.card, self.encoder)

    def specs(self, parents: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """For each text `{"shown": numbers of labels}`, with `"wide": True` where it is to be asked with all of them."""
        numbers = [int(one["text_no"]) for one in parents]
        found = candidates_of(self.warehouse, self._index, numbers, self.count, self.progress)
        wide = [at for at, one in enumerate(parents) if one.get("role") == "audit"][: self.see_all]
        return [{"shown": shown, **({"wide": True} if at in wide else {})} for at, shown in enumerate(found)]

    def all_for(self, texts: Sequence[str]) -> list[list[str] | None]:
        """The names of the labels that each text is asked with where it is to see all: None for all of the card."""
        if len(self.card.labels) <= WIDE:
            return [None] * len(texts)
        return [[self.card.labels[at].name for at in row] for row in self._index.candidates(texts, WIDE)]


@dataclass(frozen=True)
class Rounds:
    """Asks texts with their candidates, and those of which the model says that none fits with all labels.

    Attributes:
        narrow: With the candidates.
        wide: With all labels, a choice forced.
        retrieval: What is shown.
    """

    narrow: Labelling
    wide: Labelling
    retrieval: Retrieval

    def ask(
        self, asker: Asker, questions: Sequence[Question], tries: int
    ) -> tuple[list[Request], list[Parsed[tuple[str, ...]] | Failure]]:
        """For each question the request that decided it, and what came of it."""
        from factory.llm import Failure

        requests = [self.narrow.request(one.text, one.shown) for one in questions]
        self._widen(requests, questions, [at for at, one in enumerate(questions) if one.wide])
        found = asker.parsed([(one, 0) for one in requests], self._parse, again=self._again, tries=tries)
        if self.narrow.prompt is self.wide.prompt:
            return requests, found
        none = [
            at
            for at, (one, came) in enumerate(zip(questions, found, strict=True))
            if not one.wide and not isinstance(came, Failure) and not came.value
        ]
        self._widen(requests, questions, none)
        second = asker.parsed([(requests[at], 0) for at in none], self._parse, again=self._again, tries=tries)
        for at, came in zip(none, second, strict=True):
            found[at] = came
        return requests, found

    def _widen(self, requests: list[Request], questions: Sequence[Question], which: Sequence[int]) -> None:
        shown = self.retrieval.all_for([questions[at].text for at in which])
        for at, names in zip(which, shown, strict=True):
            requests[at] = self.wide.request(questions[at].text, names)

    def _of(self, request: Request) -> Labelling:
        return self.narrow if request.prompt == self.narrow.prompt.name else self.wide

    def _parse(self, request: Request, text: str) -> tuple[str, ...]:
        return self._of(request).parse(request, text)

    def _again(self, request: Request, answer: str, failure: ParseFailure) -> Request:
        return self._of(request).prompt.ask_again(request, answer, failure)
