"""Passages: texts cut at sentence ends to a budget of tokens, so that each can stand in a prompt.

Tokens are counted as words and single punctuation marks: close to a subword tokenizer's count for English prose (within about a
quarter), the same on every machine, and needs no model.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

_TOKEN = re.compile(r"\w+|[^\w\s]")
_SENTENCE_END = re.compile(r"[.!?…。！？][\"'”’)\]]*(?=\s|$)|\n\s*\n")
_QUOTE_LINE = re.compile(r"^\s*(?:[>|:}]|\w{0,6}>)")
_ATTRIBUTION = re.compile(r"(?:writes|wrote|says|said)\s*:\s*$|^In article\b|^\s*In <", re.IGNORECASE)


@dataclass(frozen=True)
class Passage:
    """A piece of a text.

    Attributes:
        text: The piece, without blanks at its ends.
        first: Where it begins in the text, in characters.
        last: Where it ends (exclusive).
    """

    text: str
    first: int
    last: int


def count_tokens(text: str) -> int:
    """Words and punctuation marks.

    Example:
        >>> count_tokens("Oil rises, again.")
        5
    """
    return sum(1 for _ in _TOKEN.finditer(text))


def cut(text: str, *, budget: int = 400, minimum: int = 20, first_only: bool = False) -> list[Passage]:
    """Cut a text into passages of at most `budget` tokens that end where a sentence ends.

    A sentence that alone passes the budget is cut at the budget. A passage under the minimum is left out, as SynthesizRR leaves
    out documents of under 20 tokens (its upper bound is 400, where it keeps the first piece only: `first_only`).

    Args:
        text: Any text.
        budget: The most tokens of a passage, at least 1.
        minimum: The fewest tokens of a passage.
        first_only: Keep the first passage only.

    Example:
        >>> [p.text for p in cut("One two three. Four five six. Seven.", budget=8, minimum=1)]
        ['One two three. Four five six.', 'Seven.']
    """
    if budget < 1:
        raise ValueError("budget is at least 1 token")
    passages: list[Passage] = []
    start = end = tokens = 0
    for sentence_start, sentence_end, size in _sentences(text, budget):
        if tokens and tokens + size > budget:
            passages.append(_piece(text, start, end))
            if first_only:
                break
            start, tokens = sentence_start, 0
        elif not tokens:
            start = sentence_start
        end, tokens = sentence_end, tokens + size
    else:
        if tokens:
            passages.append(_piece(text, start, end))
    return [passage for passage in passages if count_tokens(passage.text) >= minimum]


def strip_usenet(text: str) -> str:
    """The body of a newsgroup post or a mail: without its header, quoted lines, attributions and signature.

    Example:
        >>> strip_usenet("From: a@b\\nSubject: hi\\n\\nIn article <1> c@d writes:\\n> old\\nNew words.\\n-- \\nA. B.")
        'New words.'
    """
    _, _, body = text.partition("\n\n")
    lines = []
    for line in (body or text).split("\n"):
        if re.match(r"^--+\s*$", line):
            break
        if not _QUOTE_LINE.match(line) and not _ATTRIBUTION.search(line):
            lines.append(line.rstrip())
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


def squeeze(text: str) -> str:
    """The text with every run of blanks and line ends as one blank."""
    return re.sub(r"\s+", " ", text).strip()


CLEANERS: dict[str, Callable[[str], str]] = {
    "none": lambda text: text,
    "squeeze": squeeze,
    "usenet": lambda text: squeeze(strip_usenet(text)),
}
"""How a source's texts are cleaned before they are cut, by name."""


def _sentences(text: str, budget: int) -> Iterator[tuple[int, int, int]]:
    """`(first, last, tokens)` of every sentence, those above the budget cut at it."""
    start = 0
    ends = [match.end() for match in _SENTENCE_END.finditer(text)]
    for end in [*ends, len(text)]:
        tokens = list(_TOKEN.finditer(text, start, end))
        for offset in range(0, len(tokens), budget):
            part = tokens[offset : offset + budget]
            yield part[0].start(), part[-1].end() if offset + budget < len(tokens) else end, len(part)
        start = max(start, end)


def _piece(text: str, first: int, last: int) -> Passage:
    raw = text[first:last]
    first += len(raw) - len(raw.lstrip())
    return Passage(raw.strip(), first, first + len(raw.strip()))
