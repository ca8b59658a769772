"""What a model said in the end: its answer without the reasoning before it and without the tokens of its chat template.

Every function here takes time linear in the length of the answer.
"""

from __future__ import annotations

import re

from factory.llm.request import ParseFailure

LONGEST = 1 << 17
"""Characters of an answer, apart from its reasoning, beyond which it is refused: far more than any prompt asks for."""

_MARK = re.compile(
    r"</?[a-z_:]{2,32}>|\[/?THINK\]|◁/?think▷|<\|\w{6,20}\|>|<unused9[45]>|<\|channel>|<channel\|>", re.IGNORECASE
)
_TAG = re.compile(
    r"think(?:ing)?|thoughts?|reasoning|reflection|analysis|scratchpad|rationale|chain_of_thought|cot|antthinking"
    r"|[a-z_]{1,20}[:_]think"
)
_TOKENS = {
    "[think]": ("square", True), "[/think]": ("square", False),
    "◁think▷": ("triangle", True), "◁/think▷": ("triangle", False),
    "<|begin_of_thought|>": ("thought", True), "<|end_of_thought|>": ("thought", False),
    "<|start_thinking|>": ("thinking", True), "<|end_thinking|>": ("thinking", False),
    "<|inner_prefix|>": ("inner", True), "<|inner_suffix|>": ("inner", False),
    "<unused94>": ("unused", True), "<unused95>": ("unused", False),
    "<|channel>": ("channel", True), "<channel|>": ("channel", False),
}  # fmt: skip
"""Marks of reasoning that are no tags: `(kind, whether it opens)`."""

_OPENING_WORDS = re.compile(r"^\W{0,4}here(?: is|['’]s) my thought process\b:?", re.IGNORECASE | re.MULTILINE)
_CLOSING_WORDS = re.compile(
    r"^\W{0,4}here(?: is|['’]s) my (?:final )?(?:response|answer):", re.IGNORECASE | re.MULTILINE
)

_CHANNEL = "<|channel|>"
_CHANNEL_ENDS = re.compile(r"<\|(?:end|return|start|call|channel)\|>")

_TURN_ENDS = re.compile(
    r"<\|(?:im_end|eot_id|eom_id|endoftext|end_of_text|end|return|call|eos|end_of_turn_token|end_of_solution|end_response|user"
    r"|im_start|start_header_id|system|assistant|observation)\|>|<｜end▁of▁sentence｜>|<(?:end_of_turn|end_of_utterance|turn\||eos)>"
    r"|\[/?INST\]|\[EOS\]",
    re.IGNORECASE,
)
_TURN_STARTS = re.compile(
    r"\s*+(?:<\|im_start\|>\s*+(?:assistant\b)?|<\|start_header_id\|>\s*+assistant\s*+<\|end_header_id\|>|<start_of_turn>\s*+model\b"
    r"|<\|turn>\s*+model\b|<\|?assistant\|?>|<｜Assistant｜>|\[/INST\]|<bos>|<s>|<\|(?:begin_of_text|start_of_text|begin_of_solution"
    r"|start_response|chatbot_token|start_of_turn_token)\|>|<｜begin▁of▁sentence｜>)",
    re.IGNORECASE,
)
_LAST_TOKEN = re.compile(r"(?:</s>|<s>|<pad>|<unk>|<0x0A>)\Z", re.IGNORECASE)
_BLANK_LINES = re.compile(r"(?:[^\S\n]*+\n)++")
_WRAPPED = re.compile(r"\s*+<(?P<tag>answer|final_answer|final|response|output|result|solution)>", re.IGNORECASE)

INVISIBLE = "\u200b\u200c\u200d\u200e\u200f\u2060\ufeff\u00ad\x00"
"""Characters that show nothing: left out around an answer, and wherever names are compared."""


def final_answer(text: str) -> str:
    """The answer that stands after the model's reasoning, as one text.

    What stands between reasonings is part of it. Line ends become `\\n`; the tokens that open and end a turn, a tag such as
    `<answer>` around all of it, and invisible characters at its ends are left out.

    Raises:
        ParseFailure: `truncated` if the reasoning never ends, `too_long` beyond `LONGEST` characters.
    """
    return "\n".join(answer_pieces(text)).strip()


def answer_pieces(text: str) -> list[str]:
    """Like `final_answer`, as what stands before, between and after reasonings; empty pieces are left out, the indentation of the
    first line of a piece is kept.

    An end of reasoning that was never begun (a chat template begins it in the prompt) ends all that stands before it.
    """
    text = _with_tags(_last_channel(text.replace("\r\n", "\n").replace("\r", "\n")))
    pieces: list[str] = []
    inside: str | None = None
    at = 0
    for mark in _MARK.finditer(text):
        kind, opens = _kind(mark[0].lower())
        if kind is None or (inside is not None and (opens or kind != inside)):
            continue
        if opens:
            pieces.append(text[at : mark.start()])
            inside = kind
        elif inside is None:
            pieces.clear()
        else:
            inside = None
        at = mark.end()
    if inside is not None:
        raise ParseFailure("truncated", "The answer ended before the reasoning did.")
    pieces.append(text[at:])
    found = [piece for piece in map(_said, pieces) if piece]
    if sum(map(len, found)) > LONGEST:
        raise ParseFailure("too_long", "The answer is far too long.")
    return found


def _kind(mark: str) -> tuple[str | None, bool]:
    """Which kind of reasoning a mark belongs to, and whether it opens it; no kind where it is no such mark."""
    if mark in _TOKENS:
        return _TOKENS[mark]
    tag = mark[1:-1].removeprefix("/")
    if _TAG.fullmatch(tag) is None:
        return None, False
    return "think" if tag.startswith(("think", "thought")) else tag, not mark.startswith("</")


def _with_tags(text: str) -> str:
    """An answer that frames its reasoning by words ("Here is my thought process:"), framed by tags instead."""
    begins = _OPENING_WORDS.search(text)
    if begins is None:
        return text
    rest = _CLOSING_WORDS.sub("</granite:think>", text[begins.end() :], count=1)
    return f"{text[: begins.start()]}<granite:think>{rest}"


def _last_channel(text: str) -> str:
    """What was said on the channel `final` of a Harmony answer (gpt-oss); any other answer as it is.

    Raises:
        ParseFailure: The answer never came to that channel.
    """
    if _CHANNEL not in text:
        bare = text.lstrip()
        # The same answer from a server that drops special tokens.
        if bare.startswith("analysis") and "assistantfinal" in bare:
            return bare.rpartition("assistantfinal")[2]
        if not re.match(r"analysis[A-Z]", bare):
            return text
    final: list[str] = []
    for part in text.split(_CHANNEL)[1:]:
        name, found, said = part.partition("<|message|>")
        if found and name.split(None, 1)[:1] == ["final"]:
            final.append(_CHANNEL_ENDS.split(said, maxsplit=1)[0])
    if not final:
        raise ParseFailure("truncated", "The answer ended before the reasoning did.")
    return final[-1]


def _said(text: str) -> str:
    """One turn without what opens it, without the token that ends it and whatever follows, and without a tag around it."""
    at = 0
    while (start := _TURN_STARTS.match(text, at)) is not None:
        at = start.end()
    end = _TURN_ENDS.search(text, at)
    stop = len(text) if end is None else end.start()
    while True:
        while stop > at and (text[stop - 1].isspace() or text[stop - 1] in INVISIBLE):
            stop -= 1
        last = _LAST_TOKEN.search(text, max(at, stop - 8), stop)
        if last is None:
            break
        stop = last.start()
    said = _unwrapped(text[at:stop].lstrip(INVISIBLE)).rstrip()
    blank = _BLANK_LINES.match(said)
    return said if blank is None else said[blank.end() :]


def _unwrapped(text: str) -> str:
    """What stands in a tag around the whole answer; a tag that a stop sequence left open counts."""
    tag = _WRAPPED.match(text)
    if tag is None:
        return text
    inner, _, rest = text[tag.end() :].partition(f"</{tag['tag']}>")
    return text if rest.strip() else inner
