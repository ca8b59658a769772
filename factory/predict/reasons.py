"""Why a glass box answers as it does: which programs fired, on which words, what each vote counts, and what the text itself says.

Of each text `reasons` holds

    instead    the label that comes next
    programs   those that voted, what counts most first: `program`, `says`, `on` (words of the text, for rules) or `about` (its
               author's line, for Python), and `odds`: what the vote multiplies the odds of its label by, against `instead` where
               it says what is answered, else against the answer
    text       what the members that read the text alone say: `says`, `probability`, and `words` where they read words
    shares     of the answer's probability: how much comes from the `programs` and how much from the `text`

and in a `multi` task the same for each label that is answered, or for the likeliest one. `odds` are the mean over the members
that read votes, by their weights in the mixture. A member that reads votes and the text (`logistic`) is split by what each adds.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from factory.predict.glass_box import LOGISTIC, GlassBox, Part
from factory.programs.rules import RuleVoter, read_rules, words_behind

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST_WORDS = 5
"""Words that are told of a text."""
NAMED_FOR, NAMED_AGAINST = 3, 2
"""Programs that the sentence names."""
YES_NO = ("no", "yes")


class Explainer:
    """Says why, text by text."""

    def __init__(self, box: GlassBox) -> None:
        self.box = box

    def __call__(
        self, votes: NDArray[Any], texts: Sequence[str], vectors: NDArray[Any], probs: NDArray[np.float32]
    ) -> list[dict[str, Any]]:
        """The reasons for each of n answers: `{"why": a sentence, "reasons": as the head of this module says}`.

        Args:
            votes: As `GlassBox.run` gives them.
            texts: n of them.
            vectors: float [n, d].
            probs: What was answered, float32 [n, k].
        """
        box = self.box
        told = [self._words(text, row) for text, row in zip(texts, votes, strict=True)]
        found: list[dict[str, dict[str, Any]]] = [{} for _ in texts]
        for part in box.parts:
            if part.label is None:
                rows = list(range(len(texts)))
            else:
                column = box.labels.index(part.label)
                rows = np.flatnonzero((probs[:, column] >= 0.5) | (probs.argmax(axis=1) == column)).tolist()
            mine = votes[np.ix_(rows, list(part.columns))]
            said = part.members(mine, [texts[row] for row in rows], vectors[rows])
            mixed = part.answer(said)
            for at, row in enumerate(rows):
                one = {name: given[at] for name, given in said.items()}
                words = [told[row].get(column, {}) for column in part.columns]
                reasons = self._of(part, mine[at], texts[row], vectors[row], one, mixed[at], words)
                found[row][part.label or part.classes[int(mixed[at].argmax())]] = reasons
        return [{"why": _sentence(each), "reasons": self._shown(each)} for each in found]

    def _shown(self, each: dict[str, dict[str, Any]]) -> dict[str, Any]:
        plain = {
            label: {name: of for name, of in one.items() if name not in ("answer", "probability")}
            for label, one in each.items()
        }
        return plain if self.box.multi else next(iter(plain.values()))

    @cached_property
    def _rules(self) -> tuple[list[int], list[Any], RuleVoter]:
        """Places of the programs that are rules, their lists, and what finds them in a text."""
        box = self.box
        names = list(box.facts["names"])
        at = [place for place, each in enumerate(box.programs) if each.kind == "rules"]
        lists = [read_rules(box.sources[place].source, names, box.programs[place].target) for place in at]
        labels = [names if box.programs[place].target is None else list(YES_NO) for place in at]
        return at, lists, RuleVoter(lists, labels)

    def _words(self, text: str, votes: NDArray[Any]) -> dict[int, dict[str, Any]]:
        """By the place of each program that voted: on which words of the text, or what it is about."""
        box, (at, lists, voter) = self.box, self._rules
        names = YES_NO if box.multi else box.labels
        said = [names[votes[place]] if votes[place] >= 0 else None for place in at]
        on = words_behind(voter, lists, text, said) if any(said) else [[]] * len(at)
        found: dict[int, dict[str, Any]] = {p: {"on": words} for p, words in zip(at, on, strict=True) if words}
        about = {p: {"about": each.says} for p, each in enumerate(box.programs) if each.says and votes[p] >= 0}
        return about | found

    def _of(
        self, part: Part, votes: NDArray[Any], text: str, vector: NDArray[Any], said: dict[str, NDArray[np.float32]],
        mixed: NDArray[np.float32], words: Sequence[dict[str, Any]],
    ) -> dict[str, Any]:  # fmt: skip
        """The reasons for one answer of one part; `answer` and `probability` beside them are for the sentence."""
        order = np.argsort(-mixed, kind="stable")
        best, other = int(order[0]), int(order[1])
        programs = []
        for column in np.flatnonzero(votes >= 0).tolist():
            vote = int(votes[column])
            against = other if vote == best else best
            added = part.added(column, vote)
            odds = float(np.exp(added[vote] - added[against]))
            name = self.box.programs[part.columns[column]].name
            row = {"program": name, "says": _class(part, vote), **words[column], "odds": float(f"{odds:.3g}")}
            programs.append((vote == best, row))
        programs.sort(key=lambda one: (-one[0], -one[1]["odds"], one[1]["program"]))
        shares = {name: part.weights[name] * float(given[best]) for name, given in said.items()}
        whole = max(sum(shares.values()), 1e-12)
        by_text = sum(share for name, share in shares.items() if name in part.students)
        by_text += shares.get(LOGISTIC, 0.0) * _text_share(part, votes, vector, best, other)
        return {
            "answer": _class(part, best), "probability": float(mixed[best]), "instead": _class(part, other),
            "programs": [row for _, row in programs], "text": _by_text(part, text, said, best, other),
            "shares": {"programs": round(1 - by_text / whole, 2), "text": round(by_text / whole, 2)},
        }  # fmt: skip


def _class(part: Part, place: int) -> str:
    return part.classes[place] if part.label is None else f"{'' if place else 'not '}{part.label}"


def _text_share(part: Part, votes: NDArray[Any], vector: NDArray[Any], best: int, other: int) -> float:
    """How much of what the logistic regression says comes from the text's vector, by the size of what each adds."""
    if not part.pull.size:
        return 0.0
    added = part.votes[LOGISTIC][np.arange(len(votes)), votes].sum(axis=0)
    pulled = part.pull @ vector
    by_votes, by_text = abs(added[best] - added[other]), abs(pulled[best] - pulled[other])
    return float(by_text / max(by_votes + by_text, 1e-12))


def _by_text(part: Part, text: str, said: dict[str, NDArray[np.float32]], best: int, other: int) -> dict[str, Any]:
    """What the students say, and by which words."""
    weights = {name: part.weights[name] for name in part.students}
    total = sum(weights.values()) or 1.0
    probs = np.sum([weight / total * said[name] for name, weight in weights.items()], axis=0)
    mine = int(probs.argmax())
    against = other if mine == best else best
    found: dict[str, Any] = {"says": _class(part, mine), "probability": round(float(probs[mine]), 3)}
    pulls: dict[str, float] = {}
    for name, student in part.students.items():
        terms, added = student.words.pulls(text) if student.words is not None else ([], np.zeros((0, len(probs))))
        for term, row in zip(terms, added, strict=True):
            pulls[term] = pulls.get(term, 0.0) + weights[name] / total * float(row[mine] - row[against])
    strongest = sorted((term for term in pulls if pulls[term] > 0 and term[0] != "\x01"), key=lambda t: (-pulls[t], t))
    return found | ({"words": strongest[:MOST_WORDS]} if strongest else {})


def _sentence(each: dict[str, dict[str, Any]]) -> str:
    """The reasons in plain English, on one line."""
    return " ".join(map(_one_answer, each.values()))


def _one_answer(told: dict[str, Any]) -> str:
    pro = [row for row in told["programs"] if row["says"] == told["answer"]]
    contra = [row for row in told["programs"] if row["says"] != told["answer"]]
    said = [f"{told['answer']} ({_sure(told['probability'])}) rather than {told['instead']}."]
    if pro:
        said.append(f"{_count(pro)} say{'s' * (len(pro) == 1)} so: {_named(pro, NAMED_FOR)}.")
    if contra:
        one = f"{_count(contra)} say{'s' * (len(contra) == 1)} otherwise"
        said.append(f"{one}: {_named(contra, NAMED_AGAINST, says=True)}.")
    if not told["programs"]:
        said.append("No program fired.")
    text = told["text"]
    words = f", mostly for {', '.join(map(repr, text['words'][:3]))}" if text.get("words") else ""
    said.append(f"The text by itself reads as {text['says']} ({_sure(text['probability'])}){words}.")
    source = "programs" if told["programs"] else "what is usual where no program speaks"
    shares = told["shares"]
    said.append(f"Of the answer {shares['programs']:.0%} comes from {source} and {shares['text']:.0%} from the text.")
    return " ".join(said)


def _sure(probability: float) -> str:
    return "over 99%" if probability > 0.99 else f"{probability:.0%}"


def _count(rows: Sequence[dict[str, Any]]) -> str:
    return f"{len(rows)} program{'s' * (len(rows) != 1)}"


def _named(rows: Sequence[dict[str, Any]], most: int, *, says: bool = False) -> str:
    told = []
    for row in rows[:most]:
        label = f" says {row['says']}" if says else ""
        on = f" on {', '.join(map(repr, row['on'][:3]))}" if row.get("on") else ""
        about = f" ({row['about']})" if row.get("about") else ""
        told.append(f"{row['program']}{about}{label}{on}, odds x{row['odds']:g}")
    more = len(rows) - most
    return "; ".join(told) + (f"; and {more} more" if more > 0 else "")
