"""What models do to answers: `(kind, answer, truth)`, where truth is None if no value can be right.

The mutations start from what they are given (recorded answers, see `recorded.py`), or from the invented answers here.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

LABEL_SETS: tuple[tuple[str, ...], ...] = (
    ("HAM", "SPAM"),
    ("DESC", "ENTY", "HUM", "ABBR", "LOC", "NUM"),
    ("World", "Sports", "Business", "Sci/Tech"),
    ("question", "praise", "off topic"),
    ("support", "supporting act", "C++", "C"),
    ("0", "1", "2"),
)
TOPICS = ("earn", "acq", "money-fx", "crude", "grain", "trade", "interest", "wheat", "ship", "corn")
PREAMBLES = ("Sure!", "Sure, here you go:", "Certainly. Here is the answer:", "Okay.", "Thank you for the text.")
TAILS = (
    "I hope this helps!",
    "Let me know if you need anything else.",
    "The wording makes this clear.",
    "Note: this is my best judgement.",
)
STATEMENTS = (
    "Label: {}",
    "The label is {}.",
    "Answer: **{}**",
    "My answer is: {}",
    "Category: {}",
    "The best label is {}.",
)
PAIRS = ("{a} or {b}", "{a}, {b}", "{a}\n{b}", "{a}/{b}", "{a} and {b}")
DENIALS = ("Not {a}.", "It is not {a}.", "The label is not {a}.", "Anything but {a}", "not {a}, {b}", "{a}? Hardly.")
RETRACTIONS = ("{a}. No, on reflection it is {b}.", "{a}\nWait, that is wrong.", "{a}. Actually not.")
STRANGE = ("Music", "None of them fits.", "I cannot label this text.", "", "Entertainment?", "label")
APOLOGIES = (
    "I'm sorry, but I can't help with that.",
    "I cannot write such a text.",
    "I am unable to rewrite this passage.",
    "As an AI, I do not do this.",
)
FENCES = ("```", "```text", "```json", "```python", "~~~")


@dataclass(frozen=True)
class Mutant:
    """An answer, what it should be read as (None: it must be asked again), and how the engine says that it ended."""

    kind: str
    answer: str
    truth: Any
    finish: str = "stop"


def labels_of(rng: random.Random) -> tuple[Sequence[str], str, str]:
    """A set of labels, the right one, and another."""
    names = rng.choice(LABEL_SETS)
    right, other = rng.sample(names, 2)
    return names, right, other


def label_mutants(
    rng: random.Random,
    n: int,
    abstain: str | None,
    pick: Callable[[random.Random], tuple[Sequence[str], str, str]] = labels_of,
) -> Iterator[tuple[Sequence[str], Mutant]]:
    """Mutations of the answer of a prompt of form `label`, with the labels it chose from."""

    def recased(name: str) -> str:
        return rng.choice([name.lower(), name.upper(), name.title(), name.swapcase()])

    kinds: dict[str, Callable[[str, str], tuple[str, Any]]] = {
        "bare": lambda a, b: (a, a),
        "blanks": lambda a, b: (f"  \n{a}\n\n ", a),
        "other case": lambda a, b: (recased(a), a),
        "quoted": lambda a, b: (rng.choice(['"{}"', "'{}'", "`{}`", "“{}”", "**{}**", '**"{}"**', '"{}".']).format(a), a),
        "full stop": lambda a, b: (f"{a}.", a),
        "stated": lambda a, b: (
            rng.choice(STATEMENTS).format(a),
            a,
        ),
        "preamble": lambda a, b: (f"{rng.choice(PREAMBLES)}\n\n{a}", a),
        "chatty tail": lambda a, b: (f"{a}\n\n{rng.choice(TAILS)}", a),
        "reason": lambda a, b: (f"{a}\nReason: the writer says so in as many words.", a),
        "fence": lambda a, b: (f"{rng.choice(FENCES)}\n{a}\n```".replace("~~~\n" + a + "\n```", f"~~~\n{a}\n~~~"), a),
        "json": lambda a, b: (rng.choice(['{{"label": {}}}', '```json\n{{"label": {}}}\n```']).format(json.dumps(a)), a),
        "thoughts": lambda a, b: (f"<think>Could be {b}, could be {a}. It is {a}.</think>\n{a}", a),
        "judged": lambda a, b: (f"This text should be classified as {a}.", a),
        "truncated": lambda a, b: (a[: rng.randint(1, max(1, len(a) - 1))] if len(a) > 1 else "", None),
        "truncated thoughts": lambda a, b: (f"<think>Could be {b}, but then again", None),
        "two labels": lambda a, b: (rng.choice(PAIRS).format(a=a, b=b), None),
        "changed mind": lambda a, b: (rng.choice(RETRACTIONS).format(a=a, b=b), None),
        "rejected": lambda a, b: (rng.choice(DENIALS).format(a=a, b=b), None),
        "compared": lambda a, b: (f"{a}, since it is no {b} at all", None),
        "unknown": lambda a, b: (rng.choice(STRANGE), None),
        "echo": lambda a, b: (f"The text says: the label is whatever you want. {a}?", None),
    }  # fmt: skip
    order = list(kinds)
    for at in range(n):
        kind = order[at % len(order)]
        names, right, other = pick(rng)
        answer, truth = kinds[kind](right, other)
        if kind == "rejected" and any(name.casefold().startswith(("not ", "not-", "non-", "no ")) for name in names):
            answer = rng.choice(STRANGE)  # `not counterfactual` denies one label and is another
        if right == abstain and truth is not None:
            truth = "(abstain)"
        if abstain is not None and pick is labels_of and kind == "bare" and rng.random() < 0.5:
            answer, truth = rng.choice([abstain, abstain.upper(), f"{abstain}.", f'"{abstain}"']), "(abstain)"
        yield names, Mutant(kind, answer, truth)


def labels_mutants(rng: random.Random, n: int) -> Iterator[Mutant]:
    """Mutations of the answer of a prompt of form `labels`."""
    for at in range(n):
        right = sorted(rng.sample(TOPICS, rng.choice([0, 1, 1, 2, 3])), key=TOPICS.index)
        lines = "\n".join(right) or "none"
        cut = rng.randint(1, max(1, len(lines) - 1))
        made = (
            ("bare", lines, right),
            ("commas", ", ".join(right) or "None.", right),
            ("bullets", "\n".join(f"- {name}" for name in right) or "none", right),
            ("numbered", "\n".join(f"{i}. {name}" for i, name in enumerate(right, 1)) or "none", right),
            ("other case", lines.upper(), right),
            ("quoted", "\n".join(f'"{name}"' for name in right) or '"none"', right),
            ("stated", f"Labels: {', '.join(right) or 'none'}", right),
            ("json", json.dumps({"labels": right}), right),
            ("fence", f"```\n{lines}\n```", right),
            ("preamble", f"The labels that apply are:\n{lines}", right),
            ("thoughts", f"<think>perhaps {TOPICS[0]}</think>{lines}", right),
            ("and", " and ".join(right) or "none", right),
            ("chatty tail", f"{lines}\n\n{rng.choice(TAILS)}", right),
            ("truncated", lines[:cut], right, "length"),
            ("half a word", lines + "\ngra", None),
            ("truncated json", json.dumps({"labels": right or ["earn"]})[:-3], None),
            ("open list", f"{', '.join(right or ['earn'])},", None),
            ("unknown", f"{lines}\nsugar", None),
            ("prose", "It is mostly about earn, but not crude.", None),
            ("empty", " ", None),
        )
        kind, answer, truth, *finish = made[at % len(made)]
        yield Mutant(kind, answer, truth, *finish)


PROGRAMS = (
    """import re

PATTERN = re.compile(r"\\b(?:subscribe|check out)\\b", re.I)


def label(text):
    if PATTERN.search(text):
        return "SPAM"
    return None
""",
    """WORDS = {"HAM": ["love", "song"], "SPAM": ["free", "win"]}


def label(text: str):
    low = text.lower()
    counts = {name: sum(word in low for word in words) for name, words in WORDS.items()}
    best = max(counts, key=counts.get)
    return best if counts[best] > 0 else None
""",
    """def count(text):
    return text.count("!")


def label(text):
    return "SPAM" if count(text) > 3 else None
""",
)


def program_mutants(rng: random.Random, n: int, programs: Sequence[str] = PROGRAMS) -> Iterator[Mutant]:
    """Mutations of the answer of a prompt of form `program`."""
    for at in range(n):
        right = rng.choice(programs)
        other = rng.choice([program for program in programs if program != right])
        cut = rng.randint(3, len(right) - 3)
        made = (
            ("bare", f"```python\n{right}```", right),
            ("no fence", right, right),
            ("wrong fence", f"```{rng.choice(['', 'py', 'Python3', 'text', 'javascript'])}\n{right}```", right),
            ("tildes", f"~~~python\n{right}~~~", right),
            ("preamble", f"{rng.choice(PREAMBLES)}\n\n```python\n{right}```", right),
            ("chatty tail", f"```python\n{right}```\n\n{rng.choice(TAILS)}", right),
            ("usage after", f'```python\n{right}```\n\nUsage:\n\n```python\nprint(label("hi"))\n```', right),
            ("shell before", f"First:\n```bash\npip install nothing\n```\n\n```python\n{right}```", right),
            ("indented", "    " + right.replace("\n", "\n    ").rstrip(), right),
            ("crlf", f"```python\n{right}```".replace("\n", "\r\n"), right),
            ("json", json.dumps({"program": right}), right),
            ("same twice", f"```python\n{right}```\nAgain:\n```python\n{right}```", right),
            ("thoughts", f"<think>\n```python\n{other}```\n</think>\n```python\n{right}```", right),
            ("truncated", f"```python\n{right[:cut]}", None),
            ("truncated json", json.dumps({"program": right})[:-4], None),
            ("two programs", f"```python\n{right}```\nor\n```python\n{other}```", None),
            ("other name", f"```python\n{right.replace('def label(', 'def classify(')}```", None),
            ("broken", f"```python\n{right.replace('def label(', 'def label((', 1)}```", None),
            ("prose", "I would look for words such as subscribe and return SPAM.", None),
            ("empty", "```python\n```", None),
        )  # fmt: skip
        kind, answer, truth = made[at % len(made)]
        yield Mutant(kind, answer, truth)


TEXTS = (
    "omg this song takes me back to 2009, who else is here in winter?",
    'She said "never again" and then she watched it twice.',
    "Oil prices fell on Tuesday after OPEC said output would rise.\n\nTraders expect more.",
    "1. place for the best guitar solo goes to this one",
    "How many rivers cross the border between France and Spain ?",
    "I can't believe this has only 300 views!",
)


def texts_mutants(
    rng: random.Random, n: int, refusal: str | None, groups: Sequence[Sequence[str]] = tuple((text,) for text in TEXTS)
) -> Iterator[Mutant]:
    """Mutations of the answer of a prompt of form `texts`."""
    no = refusal or "UNABLE TO WRITE"
    for at in range(n):
        group = list(dict.fromkeys(rng.choice(groups)))
        right, other = (
            rng.choice(group),
            rng.choice([text for others in groups for text in others if text not in group]),
        )
        cut = rng.randint(1, len(right) - 1)
        whole = "\n".join(f"<text>{text}</text>" for text in group)
        made = (
            ("bare", whole, group),
            ("whole, preamble", f"{rng.choice(PREAMBLES)}\n\n{whole}\n", group),
            ("whole, chatty tail", f"{whole}\n\n{rng.choice(TAILS)}", group),
            ("whole, fence", f"{rng.choice(FENCES[:3])}\n{whole}\n```", group),
            ("whole, json", json.dumps({"texts": group}), group),
            ("whole, truncated", whole[: -rng.randint(1, len(f"{group[-1]}</text>") - 1)], None),
            ("several", f"<text>{right}</text>\n<text>{other}</text>", [right, other]),
            ("lines", f"<text>\n{right}\n</text>", [right]),
            ("other case", f"<TEXT>{right}</TEXT>", [right]),
            ("preamble", f"Here is a new text:\n\n<text>{right}</text>", [right]),
            ("chatty tail", f"<text>{right}</text>\n\n{rng.choice(TAILS)}", [right]),
            ("fence", f"```\n<text>{right}</text>\n```", [right]),
            ("quoted", f'<text>"{right}"</text>', [right] if '"' not in right else [f'"{right}"']),
            ("no tags", right, [right]),
            ("no tags, preamble", f"Here is a comment about it:\n\n{right}", [right]),
            ("no tags, quoted", f"“{right}”", [right]),
            ("no tags, tail", f"{right}\n\n{TAILS[0]}", [right]),
            ("json", json.dumps({"texts": [right, other]}), [right, other]),
            ("thoughts", f"<think>{other}</think><text>{right}</text>", [right]),
            ("numbered", f"1. {other}\n2. {right}", [other, right]),
            ("truncated", f"<text>{right[:cut]}", None),
            ("truncated second", f"<text>{right}</text>\n<text>{other[:cut]}", None),
            ("refusal", rng.choice([no, f"{no}: no suitable content.", f"<text>{no}</text>"]), None),
            ("apology", rng.choice(APOLOGIES), None),
            ("empty", rng.choice(["", "<text></text>", "```\n```"]), None),
        )  # fmt: skip
        kind, answer, truth = made[at % len(made)]
        yield Mutant(kind, answer, truth)


def cues_mutants(rng: random.Random, n: int, right: dict[str, list[str]]) -> Iterator[Mutant]:
    """Mutations of the answer of a prompt of form `cues`."""
    first = next(iter(right))
    lines = [f"{name}: {', '.join(cues)}" for name, cues in right.items()]
    whole = "\n".join(lines)
    quoted = "\n".join(f'"{name}": ' + ", ".join(f'"{cue}"' for cue in cues) for name, cues in right.items())
    for at in range(n):
        made = (
            ("bare", whole, right),
            ("blanks", "\n\n".join(f"  {line} " for line in lines), right),
            ("other case", "\n".join(line.partition(":")[0].upper() + ":" + line.partition(":")[2] for line in lines), right),
            ("quoted", quoted, right),
            ("bullets", "\n".join(f"- {line}" for line in lines), right),
            ("preamble", f"{rng.choice(PREAMBLES)}\n{whole}", right),
            ("chatty tail", f"{whole}\n\n{rng.choice(TAILS)}", right),
            ("fence", f"```\n{whole}\n```", right),
            ("thoughts", f"<think>{rng.choice(TAILS)}</think>{whole}", right),
            ("same twice", f"{whole}\n{rng.choice(lines)}", right),
            ("other order", "\n".join(reversed(lines)), right),
            ("unknown label", f"{whole}\nweather: rain, sun", right),
            ("label missing", "\n".join(lines[1:]), {**right, first: []}),
            ("no colons", whole.replace(":", " -"), None),
            ("prose", "There are many words for this, such as pies.", None),
            ("empty", "", None),
        )  # fmt: skip
        kind, answer, truth = made[at % len(made)]
        yield Mutant(kind, answer, truth)


def json_mutants(rng: random.Random, n: int, right: dict[str, Any], required: Collection[str]) -> Iterator[Mutant]:
    """Mutations of the answer of a prompt of form `json`, some of whose keys are `required`."""
    first = next(iter(right))
    for at in range(n):
        whole = json.dumps(right, indent=rng.choice([None, 2]))
        less = {key: value for key, value in right.items() if key != first}
        made = (
            ("bare", whole, right),
            ("fence", f"```json\n{whole}\n```", right),
            ("wrong fence", f"```python\n{whole}\n```", right),
            ("preamble", f"{rng.choice(PREAMBLES)}\n{whole}", right),
            ("chatty tail", f"{whole}\n\n{rng.choice(TAILS)}", right),
            ("both", f"Sure:\n```json\n{whole}\n```\n{rng.choice(TAILS)}", right),
            ("thoughts", f"<think>{{}}</think>{whole}", right),
            ("said twice", f"{whole}\nAgain:\n{whole}", right),
            ("truncated", whole[: rng.randint(1, len(whole) - 1)], None),
            ("single quotes", whole.replace('"', "'"), None),
            ("key missing", json.dumps(less), None if first in required else less),
            ("key added", json.dumps({**right, "note": "x"}), None),
            ("wrong type", json.dumps({**right, first: 7 if isinstance(right[first], str) else "x"}), None),
            ("list", json.dumps([right, {}]), None),
            ("two", f"{whole}\n{json.dumps(less)}", None),
            ("prose", "There are many subtopics, such as pies.", None),
        )
        kind, answer, truth = made[at % len(made)]
        yield Mutant(kind, answer, truth)
