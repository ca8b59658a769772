"""What a plan works with, read once at its beginning: the method with its materials, the screen, and what renders requests."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from factory.errors import InputError
from factory.labels.candidates import SHOWN, is_large
from factory.labels.index import LabelIndex
from factory.prompts import writing_values
from factory.result import Progress
from factory.synthesis.bands import DEMOS, SOURCES, band
from factory.synthesis.corpora import Cutting, passage_corpus
from factory.synthesis.few_shot import FewShot
from factory.synthesis.filters import ORDER, expected_language, length_bounds, text_filters
from factory.synthesis.loop import Check, Loop, State
from factory.synthesis.materials import Seed, dealt, length_words, longest_usual, read_seeds, retrieve
from factory.synthesis.render import Renderer
from factory.synthesis.screen import TextScreen
from factory.synthesis.self_guide import SelfGuide
from factory.synthesis.synthesizrr import Query, SynthesizRR
from factory.synthesis.values import Goal, Method
from factory.task import TaskCard
from factory.warehouse.held_out import held_out_texts
from factory.warehouse.tables.texts import sample_texts, texts_of

if TYPE_CHECKING:
    from factory.encoders.base import Encoder
    from factory.llm import Engine
    from factory.warehouse.file import Warehouse

LENGTH_SAMPLE = 200
"""Unlabelled texts by which real lengths and the language are told where there are few seeds."""

Attributes = Mapping[str, Mapping[str, Sequence[str]]]
"""Values per attribute, per label."""


@dataclass(frozen=True)
class Prepared:
    """A plan ready to be filled.

    Attributes:
        thresholds: The similarities that bands of retrieved passages came to.
    """

    loop: Loop
    renderer: Renderer
    thresholds: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Preparation:
    """Reads what a plan works with.

    Attributes:
        base: The folder that relative paths of passages are counted from.
        propose: Asks the model for attributes.
    """

    warehouse: Warehouse
    engine: Engine
    card: TaskCard
    goal: Goal
    config: Mapping[str, Any]
    base: Path | None
    progress: Progress
    propose: Callable[[], Attributes]

    def prepare(self, state: State) -> Prepared:
        """Read everything for a plan in this state.

        Raises:
            InputError: An unknown filter, a label without a seed, bands that cannot be read, nothing to retrieve from.
        """
        config = self.config
        unknown = [name for name in config["filters_off"] if name not in ORDER]
        if unknown:
            fix = f"There are {', '.join(ORDER)}"
            raise InputError(f"there is no filter {unknown[0]!r}", where="synthesize.filters_off", fix=fix)
        seeds = self._seeds()
        flat = [seed for found in seeds.values() for seed in found]
        real = [seed.text for seed in flat]
        if len(real) < 8:
            real += self._sample(LENGTH_SAMPLE, flat)
        method, thresholds = self._method(seeds)
        texts = {seed.text_no: seed.text for seed in flat}
        passages = self._passages(method, state)
        shown = {
            number
            for slot in state.slots
            for number in (*slot.parents.get("demos", ()), *slot.spec.get("examples", ()))
        }
        texts |= texts_of(self.warehouse, sorted(shown - set(texts))) | passages
        renderer = Renderer(
            self.card, config["method"], self.engine.model, structured=self.engine.structured, texts=texts,
            length=length_words(real), longest=longest_usual(real), style=self._sample(config["style"], flat),
            contrast=config["contrast"],
            demonstrations=_interleaved(seeds, 3) if config["label_check"] == "model" else (),
            sampling=config["sampling"], engine_sampling=self.engine.sampling, siblings=self._siblings(),
        )  # fmt: skip
        screen = TextScreen(
            held_out=held_out_texts(self.warehouse),
            seeds=[seed.text for seed in flat],
            check_text=text_filters(
                labels=self.card.label_names, noise_words=config["noise"] or (), bounds=length_bounds(real),
                expected=expected_language(real[:50]), copy_share=config["copy_share"],
            ),
            exempt=config["filters_off"],
        )  # fmt: skip
        keep = config["cartography"]
        goal = self.goal if keep is None else _enlarged(self.goal, keep)
        loop = Loop(method, goal, config["labels"], screen, passages=passages, check=self._check())
        return Prepared(loop, renderer, thresholds)

    def _check(self) -> Check | None:
        config = self.config
        if config["label_check"] == "model":
            return Check(config["check_samples"], config["check_share"], config["method"] == "self_guide", "drop")
        return Check() if config["label_check"] == "programs" else None

    def _siblings(self) -> Mapping[str, Sequence[str]]:
        """For each label of a card of many those nearest to it; nothing where prompts show all."""
        if not is_large(self.card):
            return {}
        index = LabelIndex(self.card.labels, None if self.engine.counting_only else self._encoder())
        names = self.card.label_names
        return {names[at]: [names[other] for other in near] for at, near in enumerate(index.near_labels(SHOWN - 1))}

    def _encoder(self) -> Encoder:
        """The same passages and siblings, so the same prompts, on every machine."""
        from factory.encoders.encoder import load_encoder

        return load_encoder(self.config["encoder"]).exact

    def _sample(self, count: int, seeds: Sequence[Seed]) -> list[str]:
        """Some unlabelled texts of the split train, drawn by content so that their numbers do not matter."""
        salt, exclude = str(self.config["random_seed"]), [seed.text_no for seed in seeds]
        drawn = sample_texts(self.warehouse, count, salt, exclude=exclude, drawn_by="md5")
        return [text for _, text in drawn]

    def _seeds(self) -> dict[str, list[Seed]]:
        labels, wanted = self.config["labels"], self.config["seeds"]
        if wanted == "none":
            return {label: [] for label in labels}
        seeds = read_seeds(self.warehouse, labels, None if wanted == "all" else int(wanted))
        bare = [label for label in labels if not seeds[label]]
        if bare and (self.config["method"] == "synthesizrr" or self.config["demos"] > 0):
            fix = "Ingest a split `seed` with examples of it, or say `seeds: none`"
            raise InputError(f"label {bare[0]!r} has no seed", where="synthesize", fix=fix)
        return seeds

    def _method(self, seeds: Mapping[str, Sequence[Seed]]) -> tuple[Method, Mapping[str, Any]]:
        config = self.config
        name, demos, random_seed = config["method"], config["demos"], config["random_seed"]
        numbers = {label: [seed.text_no for seed in found] for label, found in seeds.items()}
        if name == "self_guide":
            first = {label: found[:demos] for label, found in numbers.items()}
            return SelfGuide(first, count=config["texts_per_answer"], random_seed=random_seed), {}
        if name == "few_shot":
            attributes = self.propose() if config["attributes"] else {}
            block = config["block"] or 4
            return FewShot(numbers, demos, config["texts_per_answer"], block, attributes, random_seed=random_seed), {}
        queries, thresholds = self._queries(seeds)
        return SynthesizRR(queries, demos, config["block"] or 8, random_seed), thresholds

    def _queries(self, seeds: Mapping[str, Sequence[Seed]]) -> tuple[Sequence[Query], Mapping[str, Any]]:
        """Every seed (or label description) with its passages, and the similarities that the bands came to."""
        config = self.config
        outside = config["passages"]
        least, most = config["passage_tokens"] or ((20, 400) if outside else (5, 400))
        cutting = Cutting(most, least, config["first_passage"])
        corpus = passage_corpus(self.warehouse, outside, cutting, base=self.base, progress=self.progress)
        queries: list[tuple[str, int | None, str]] = []
        for label in config["labels"]:
            queries += [(label, seed.text_no, seed.text) for seed in seeds[label]]
            if not seeds[label]:
                described = writing_values(self.card, label)
                queries.append((label, None, f"{described['label']}: {described['meaning']}"))
        try:
            bands = config["bands"] or {}
            demos, sources = band(bands.get("demos"), DEMOS), band(bands.get("sources"), SOURCES)
            if set(bands) - {"demos", "sources"}:
                raise ValueError("bands are `demos` and `sources`")
        except ValueError as error:
            raise InputError(str(error), where="synthesize.bands") from error
        if not any(seeds.values()) and not config["bands"]:
            sources = band({"ranks": [1, max(50, int(self.goal.budget * 1.5))]}, SOURCES)
        exclude = [seed.text_no for some in seeds.values() for seed in some]
        if self.engine.counting_only:
            return dealt(queries, corpus, demos=demos, sources=sources, exclude=exclude), {}
        encoder = None if config["retrieval"] == "lexical" else self._encoder()
        found = retrieve(
            self.warehouse, queries, corpus, how=config["retrieval"], encoder=encoder, demos=demos, sources=sources,
            exclude=exclude, pool=config["pool"], progress=self.progress,
        )  # fmt: skip
        return found.queries, found.thresholds

    def _passages(self, method: Method, state: State) -> dict[int, str]:
        """The texts of all passages that the method may show, or has shown."""
        if not isinstance(method, SynthesizRR):
            return {}
        named = {number for query in method.queries for number in (*query.sources, *query.demos)}
        named |= {slot.parents["passage"] for slot in state.slots if "passage" in slot.parents}
        return texts_of(self.warehouse, sorted(named))


def _enlarged(goal: Goal, keep: float) -> Goal:
    """What must be accepted so that the share `keep` of it is what was asked for."""
    per_label = math.ceil(round(goal.per_label / keep, 6))
    return replace(goal, per_label=per_label, candidates=goal.candidates * goal.per_label / per_label)


def _interleaved(seeds: Mapping[str, Sequence[Seed]], most: int) -> list[tuple[str, str]]:
    """`(text, label)`, one of each label in turn, at most `most` of each."""
    return [
        (found[turn].text, found[turn].label) for turn in range(most) for found in seeds.values() if turn < len(found)
    ]
