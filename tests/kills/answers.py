"""What the counting server says: a function of the chat and the sample number alone, so that any two runs can be compared.

It is good enough for every station of the line to have something to do: programs that vote by cue words, texts that pass the
filters, labels that are mostly right for the quickstart's messages.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Mapping, Sequence

CUES = {
    "billing": ["charge", "refund", "invoice", "card", "paid", "price", "payment", "money", "voucher", "bill", "twice"],
    "delivery": ["parcel", "deliver", "arriv", "tracking", "courier", "package", "shipped", "box", "late", "address"],
    "account": ["password", "login", "log in", "e-mail", "email", "account", "code", "profile", "username", "privacy"],
    "technical": ["app", "crash", "error", "button", "page", "screen", "load", "slow", "site", "browser", "bug"],
    "cancellation": [
        "cancel",
        "stop",
        "pause",
        "unsubscribe",
        "renew",
        "send it back",
        "return",
        "downgrade",
        "end my",
    ],
    "praise": ["thank", "love", "great", "wonderful", "happy", "perfect", "best", "amazing", "kudos", "well done"],
}
"""Cue words for the labels of the quickstart; any other label is recognised by the words of its description."""

_SUBJECTS = [
    "kettle",
    "lamp",
    "basket",
    "saddle",
    "violin",
    "ladder",
    "candle",
    "carpet",
    "bucket",
    "trumpet",
    "anchor",
]
_ADVERBS = ["really", "probably", "clearly", "honestly", "frankly", "suddenly", "finally", "again", "still", "oddly"]
_PLACES = ["Leeds", "Porto", "Ghent", "Turin", "Riga", "Malmo", "Graz", "Lille", "Cork", "Bergen", "Split", "Vigo"]


def answer_of(messages: Sequence[Mapping[str, str]], sample: int) -> str:
    """The answer to one sample of a chat.

    Args:
        messages: `[{"role", "content"}]`.
        sample: Its number, from 0.
    """
    text = "\n".join(message["content"] for message in messages)
    last = messages[-1]["content"]
    dice = random.Random(hashlib.sha256(f"{sample}\x00{text}".encode()).digest())
    if "one fenced Python block" in last:
        return _program(text, last, dice)
    if "Answer with the name of one label" in last:
        return _label(text, last, dice)
    if "between <text> and </text>" in last:
        return _texts(text, last, dice)
    return "\n".join(f"{label}: {', '.join(cues)}" for label, cues in _labels(text).items())


def _labels(text: str) -> dict[str, list[str]]:
    """Label names of the section `# Labels`, each with its cues."""
    section = re.search(r"^# Labels\n((?:- .*\n?)+)", text, re.MULTILINE)
    found: dict[str, list[str]] = {}
    for line in section[1].splitlines() if section else []:
        name, _, description = line.removeprefix("- ").partition(": ")
        words = [
            word for word in re.findall(r"[a-z]{5,}", description.lower()) if word not in {"their", "there", "which"}
        ]
        found[name] = CUES.get(name) or words or [name.lower()]
    return found


def _section(text: str, title: str) -> str:
    found = re.search(rf"^# {re.escape(title)}[^\n]*\n(.*?)(?:\n\n|\Z)", text, re.MULTILINE | re.DOTALL)
    return found[1].strip() if found else ""


def _program(text: str, last: str, dice: random.Random) -> str:
    labels = _labels(text)
    focus = _section(last, "The one label this function speaks of").removeprefix("- ").partition(": ")[0]
    if focus in labels:
        labels = {focus: labels[focus]}
    table = {name: sorted(dice.sample(cues, max(len(cues) * 2 // 3, 1))) for name, cues in labels.items()}
    least = dice.choice([1, 1, 1, 2]) if len(labels) > 1 else 1
    return (
        "```python\n"
        f"CUES = {table!r}\n\n\n"
        "def label(text):\n"
        "    low = text.lower()\n"
        "    counts = [(sum(low.count(cue) for cue in cues), name) for name, cues in CUES.items()]\n"
        "    most = max(count for count, _ in counts)\n"
        "    best = [name for count, name in counts if count == most]\n"
        f"    return best[0] if most >= {least} and len(best) == 1 else None\n"
        "```"
    )


def _label(text: str, last: str, dice: random.Random) -> str:
    found = re.findall(r"<text>(.*?)</text>", last, re.DOTALL)
    low = (found[-1] if found else last).lower()
    labels = _labels(text)
    counts = {name: sum(low.count(cue) for cue in cues) for name, cues in labels.items()}
    most = max(counts.values())
    return dice.choice([name for name, count in counts.items() if count == most])


def _texts(text: str, last: str, dice: random.Random) -> str:
    label = _section(text, "The label")
    cues = CUES.get(label) or re.findall(r"[a-z]{5,}", _section(text, "What the label means").lower()) or [label]
    wanted = re.search(
        r"\d+", _section(text, "How many texts") or _section(text, "How many texts to make of each passage")
    )
    passage = re.findall(r"[A-Za-z]{4,}", _section(last, "Passage").replace("<passage>", "").replace("</passage>", ""))
    written = []
    for _ in range(int(wanted[0]) if wanted else 1):
        first, second = dice.sample(cues, 2) if len(cues) > 1 else (cues[0], cues[0])
        about = " ".join(dice.sample(passage, min(4, len(passage)))).lower()
        one, other = dice.sample(_SUBJECTS, 2)
        forms = [
            f"{first.capitalize()} {dice.choice(_ADVERBS)} about the {one} in {dice.choice(_PLACES)}, {about} and {second}.",
            f"hello, the {one} and the {other}: {about}... {dice.choice(_ADVERBS)} {first}, then {second} {dice.randint(2, 99)}",
            f"Dear team, {about}. It is {dice.choice(_ADVERBS)} {second}; {first} with my {one}, {dice.choice(_PLACES)}!",
            f"why {first}?? {dice.choice(_ADVERBS)} {about} {second} {other} no {dice.randint(100, 999)}",
        ]
        written.append(f"<text>{dice.choice(forms)}</text>")
    return "\n".join(written)
