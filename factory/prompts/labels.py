"""The parsers of labels. An answer counts only when it states its label; a label merely mentioned decides nothing."""

from __future__ import annotations

import re
from collections.abc import Sequence

from factory.llm.request import ParseFailure
from factory.prompts.answer import final_answer
from factory.prompts.matching import LabelNames, label_names, plain
from factory.prompts.parse import fences, unfenced
from factory.prompts.stated import stated_values

_NOUN = (
    r"(?:label|answer|category|categories|class|classes|classification|topic|type|sentiment|verdict|prediction|output|result|vote"
    r"|choice|option|intent|tag|decision|response|assistant|etikett|kategorie|klasse|antwort|catégorie|étiquette|réponse|categoría"
    r"|etiqueta|respuesta|标签|类别|分类|答案|ラベル)s?"
)
_STATED = re.compile(
    r"(?:(?:so|therefore|thus|hence) ?,? ?)?(?:my |the )?"
    r"(?:(?:correct|best|right|final|overall|most likely|most fitting|appropriate|predicted|best fitting|assigned|chosen) )*+"
    rf"{_NOUN} ?(?:for (?:this|the) \w+ ?|(?:that|which) appl(?:y|ies) ?)?"
    r"(?:(?:is|are) ?[:：]|would be|should be|is|are|:|：|=|->|→|-) ?(?P<rest>.+)",
    re.IGNORECASE,
)
_TEXT = (
    r"(?:text|message|comment|review|question|e-?mail|post|tweet|sentence|headline|article|passage|document|item|input"
    r"|example|news)"
)
_JUDGED = re.compile(
    r"(?:(?:this|the|it)\b[^.]{0,40}?\b(?:is|should be|would be|can be) (?:best )?(?:labell?ed|classified|categori[sz]ed) as"
    r"|i (?:would |'d )?(?:label|classify|categori[sz]e) (?:this|it|the)\b[^.]{0,40}? as"
    rf"|(?:it|this|(?:this|the) {_TEXT})(?: is|['’]s) (?:clearly |definitely |certainly |most likely |probably )?(?:an? |about )?"
    r"(?=(?P<whole>.+)))(?P<rest>.+)",
    re.IGNORECASE,
)
_NEGATION = re.compile(
    r"\b(?:not|never|neither|nor|cannot|without|except|unlike|rather|instead|unless|unlikely|no longer)\b|n['’]t\b",
    re.IGNORECASE,
)
_DOUBT = re.compile(r"\b(?:no|nope|but|however|although|though|maybe|perhaps|or|if|either)\b|[?\d]", re.IGNORECASE)
_RETRACTION = re.compile(
    r"\b(?:actually|wait|correction|scratch that|on second thoughts?|on reflection|i take (?:it|that) back|no,)",
    re.IGNORECASE,
)
_BREAK = re.compile(r"[.!;,:]\s|\s+[(–—-]|\s+(?:because|since|as)\b")
_SAID_WHY = re.compile(r"\s?\(|\s[–—-]{1,2}\s|,?\s(?:because|since)\b|,\sas\b")
_MARKS = re.compile(r"(?:#{1,6}\s+|>\s+|[-*•]\s+)")
_REASONED = re.compile(
    r"\W{0,4}(?:reason(?:ing)?|explanation|rationale|thoughts?|thinking|analysis|justification|step 1)\b", re.I
)
_CONCLUDED = re.compile(
    r"\W{0,4}(?:my |the )?(?:final |overall )?(?:label|answer|category|class|classification)\W{0,4}:", re.I
)
_INTRODUCES = re.compile(r".*:|(?:sure|certainly|of course|okay|ok)[!.]?", re.IGNORECASE)
_NONE = re.compile(
    r"(?:none|none of (?:them|these|the labels)(?: appl(?:y|ies))?|no labels?(?: appl(?:y|ies))?)", re.IGNORECASE
)
_YES_OR_NO = re.compile(r"(?P<name>.+?) ?[:=] ?(?:(?P<yes>yes|true)|no|false)\.?", re.IGNORECASE)
_LONGEST = 20_000
"""Characters of an answer, apart from its reasoning, beyond which it is no answer with the name of a label."""

_LONGEST_LINE = 600
"""Characters beyond which a line states nothing; what it mentions still counts."""


def parse_label(text: str, labels: Sequence[str], *, abstain: str | None = None) -> str | None:
    """Form `label`: the one label that the answer states, or None where it abstains.

    Accepted are the bare name (in any case, quoted, tagged, fenced, emphasised, numbered, with a full stop), `Label: X`, `The
    label is X`, `{"label": "X"}`, each with or without talk around it, as long as the answer mentions no other label and the
    statement is not negated. A label between tags, in JSON that is the whole answer, or after `Answer:` at the end of a reasoning
    counts whatever others were mentioned before it.

    Raises:
        ParseFailure: `no_label`, or `ambiguous` when it mentions two.

    Example:
        >>> parse_label("The label is **spam**.", ["spam", "ham"])
        'spam'
    """
    answer = _short_answer(text)
    own = label_names(tuple(labels))
    names = own if abstain is None or own.known(abstain) else label_names((*labels, abstain))
    name = _explicit(answer, names) or _concluded(answer, names) or _in_words(answer, names)
    return None if name not in labels else name


def parse_labels(text: str, labels: Sequence[str]) -> list[str]:
    """Form `labels`: the names that the answer lists, in the order of `labels`; `none` is the empty list.

    Every item must be a label: an answer with an item that is none is refused as a whole.

    Raises:
        ParseFailure: `unknown_label`, `no_label`, `ambiguous`, or `truncated` (a list that stops in the middle).
    """
    names = label_names(tuple(labels))
    answer = unfenced(_short_answer(text))
    values = None if names.find(answer) is not None else stated_values(answer, names)
    if values is not None:
        found = _ordered(values.labels, names)
        around = values.after if values.decides else f"{values.before}\n{values.after}"
        if names.mentions(around) - set(found) or _retracted(around, names):
            raise ParseFailure("ambiguous", "The answer names more labels beside its list, or takes it back.")
        return found
    if answer.startswith(("{", "[")) and names.find(answer) is None:
        raise ParseFailure("no_label", "The JSON has no list of labels.")
    lines = [" ".join(line.split()) for line in _without_tail(answer, names).splitlines() if line.strip()]
    if len(lines) > 1 and _INTRODUCES.fullmatch(lines[0]) and names.find(lines[0].rstrip(":!.")) is None:
        lines = lines[1:]
    if not lines:
        raise ParseFailure("no_label", "The answer is empty.")
    verdicts = [_YES_OR_NO.fullmatch(line) for line in lines]
    if all(verdict and names.find(verdict["name"]) for verdict in verdicts):
        return _ordered([verdict["name"] for verdict in verdicts if verdict and verdict["yes"]], names)
    return _ordered([item for line in dict.fromkeys(lines) for item in _items(line, names)], names)


# ----------------------------------------------------------------------------------------------------------------------
def _short_answer(text: str) -> str:
    answer = final_answer(text)
    if len(answer) > _LONGEST:
        raise ParseFailure("too_long", "The answer is far too long.")
    return answer


def _explicit(answer: str, names: LabelNames) -> str | None:
    """The label of a JSON value or of a tag; None where the answer holds neither.

    Raises:
        ParseFailure: It holds one, and that does not state one label, or is not the last word.
    """
    values = stated_values(answer, names)
    if values is None:
        return None
    found = {_stated(" ".join(item.split()), names) for item in values.labels}
    if len(found) > 1:
        raise ParseFailure("ambiguous", "The answer names more than one label.")
    name = found.pop() if found else None
    if name is None:
        raise ParseFailure("no_label", "The answer does not state a label from the list.")
    if names.mentions(values.after) - {name} or _retracted(values.after, names):
        raise ParseFailure("ambiguous", "The answer names more than one label, or takes it back.")
    if not values.decides and names.mentions(values.before) - {name}:
        raise ParseFailure("ambiguous", "The answer names more than one label.")
    return name


def _concluded(answer: str, names: LabelNames) -> str | None:
    """The label of the last line where that line concludes a reasoning that says what it is."""
    head, _, last = answer.rpartition("\n")
    if not _REASONED.match(head.lstrip()) or not _CONCLUDED.match(last.strip()):
        return None
    stated = {name for line in _lines(head) if (name := _stated(line, names)) is not None}
    name = _stated(" ".join(last.split()), names)
    return name if name is not None and stated <= {name} else None


def _in_words(answer: str, names: LabelNames) -> str:
    stated = {name for line in _lines(answer) if (name := _stated(line, names)) is not None}
    mentioned = names.mentions(answer)
    if len(stated) > 1 or (stated and (mentioned - stated or _retracted(answer, names))):
        raise ParseFailure("ambiguous", "The answer names more than one label, or takes it back.")
    if not stated:
        if len(mentioned) > 1:
            raise ParseFailure("ambiguous", "The answer names more than one label.")
        raise ParseFailure("no_label", "The answer does not state a label from the list.")
    return stated.pop()


def _lines(text: str) -> list[str]:
    """The different lines of an answer, outside and inside of its fences, with single blanks."""
    blocks, outside, _ = fences(text)
    parts = (outside, *(content for _, content in blocks))
    lines = (" ".join(line.split()) for part in parts for line in part.splitlines() if line.strip())
    return list(dict.fromkeys(lines))


def _stated(line: str, names: LabelNames) -> str | None:
    """The label that one line (with single blanks) states, or None."""
    if len(line) > _LONGEST_LINE:
        return None
    bare = _MARKS.sub("", line, count=1) if _MARKS.match(line) else line
    for candidate in (line, bare):
        if (name := names.find(candidate)) is not None:
            return name
    loose = bare.replace("**", "").replace("__", "")
    found = _STATED.fullmatch(loose) or _JUDGED.fullmatch(loose)
    if found is None:
        begun = names.leading(plain(loose))
        sure = begun and _SAID_WHY.match(begun[1]) and not (_NEGATION.search(begun[1]) or _DOUBT.search(begun[1]))
        return begun[0] if begun and sure else None
    rest = found["rest"]
    if (name := names.find(rest)) is not None:
        return name
    begun = names.leading(plain(rest.lstrip("\"'“‘`* ")))
    if begun is None or found.groupdict().get("whole") or _NEGATION.search(rest):
        return None
    return begun[0] if _BREAK.match(begun[1].lstrip("\"'”’`*")) else None


def _items(line: str, names: LabelNames) -> list[str]:
    """The items that one line of a list names.

    Raises:
        ParseFailure: The list stops in the middle.
    """
    if line in names.names:
        return [line]
    line = re.sub(r"^(?:[-*•]|\d{1,3}[.)])\s+", "", line)
    stated = _STATED.fullmatch(line.replace("**", "").replace("__", ""))
    rest = stated["rest"] if stated else line
    if rest.endswith((",", ";")) or re.search(r"\b(?:and|or)$", rest):
        raise ParseFailure("truncated", "The list of labels is not complete.")
    return [rest] if names.find(rest) is not None else names.split(rest)


def _without_tail(text: str, names: LabelNames) -> str:
    """The answer without closing paragraphs of talk: sentences in which no label occurs."""
    head, *rest = re.split(r"\n\s*\n", text)
    talk = all(
        len(part.split()) >= 3 and part.rstrip().endswith((".", "!", "?")) and not names.mentions(part) for part in rest
    )
    return head if talk else text


def _retracted(text: str, names: LabelNames) -> bool:
    """Whether the answer seems to take back what it stated."""
    return _RETRACTION.search(text) is not None and not any(_RETRACTION.search(name) for name in names.names)


def _ordered(items: Sequence[str], names: LabelNames) -> list[str]:
    found = {names.find(item) for item in items}
    is_none = found == {None} and len(items) == 1 and _NONE.fullmatch(plain(items[0]).rstrip(". "))
    if is_none and not names.known("none"):
        return []
    if None in found:
        raise ParseFailure("unknown_label", "The answer names something that is no label of the list.")
    return [name for name in names.names if name in found]
