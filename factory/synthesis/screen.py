"""The screen: what is remembered of held-out texts, seeds and texts so far, and why a new text is dropped."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property

from factory.near import THRESHOLD, NearIndex
from factory.synthesis.filters import Verdict


class TextScreen:
    """Filters a sequence of texts, each against those before it.

    The held-out index is not optional: give an empty sequence only where there are no dev and test texts.

    Example:
        >>> texts = TextScreen(held_out=["The council met on Monday to vote on the budget"])
        >>> texts.screen("The council met on Monday to vote on the budget!", None)[0]
        'duplicate_of_held_out'
        >>> texts.screen("A new goalkeeper signed for the club", None) is None
        True
        >>> texts.screen("A new goalkeeper signed for the club.", None)[0]
        'duplicate'
    """

    def __init__(
        self,
        *,
        held_out: Iterable[str],
        seeds: Iterable[str] = (),
        check_text: Callable[[str, str | None], Verdict] = lambda text, passage: None,
        threshold: float = THRESHOLD,
        exempt: Sequence[str] = (),
    ) -> None:
        """Remember the texts to compare with.

        Args:
            held_out: Texts of dev and test.
            seeds: The gold examples.
            check_text: From `filters.text_filters`.
            threshold: Jaccard similarity from which texts are near-duplicates.
            exempt: Filters that are switched off, by reason; `duplicate_of_held_out` and `near_held_out` cannot be.
        """
        self._check_text = check_text
        self._off = frozenset(exempt) - {"duplicate_of_held_out", "near_held_out"}
        self._compared, self._threshold = (_named(held_out), _named(seeds)), threshold

    # Indexed when the first text comes: a run that only asks, or plans to, has none to judge.
    @cached_property
    def _held_out(self) -> NearIndex:
        return NearIndex(self._compared[0], threshold=self._threshold)

    @cached_property
    def _seeds(self) -> NearIndex:
        return NearIndex(self._compared[1], threshold=self._threshold)

    @cached_property
    def _own(self) -> NearIndex:
        return NearIndex(threshold=self._threshold)

    def screen(self, text: str, passage: str | None) -> Verdict:
        """Say why a text is dropped; one that is kept is remembered."""
        verdict = self._check_text(text, passage)
        if verdict is not None and verdict[0] not in self._off:
            return verdict
        for index, exact, near in (
            (self._held_out, "duplicate_of_held_out", "near_held_out"),
            (self._own, "duplicate", "near_duplicate"),
            (self._seeds, "duplicate_of_seed", "near_seed"),
        ):
            found = index.find(text)
            if found is None:
                continue
            reason = exact if found[1] == 1.0 else near
            if reason not in self._off:
                return reason, f"similarity {found[1]:.2f}"
        self.remember(text)
        return None

    def remember(self, text: str) -> None:
        """Compare later texts with this one."""
        self._own.add(f"{len(self._own):09d}", text)


def _named(texts: Iterable[str]) -> list[tuple[str, str]]:
    return [(f"{number:09d}", text) for number, text in enumerate(texts)]
