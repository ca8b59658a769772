"""What a model says around a new text, or instead of one: introductions, headings, labels, explanations, thoughts, refusals.

All of it concerns answers without tags, and texts that are a stock refusal as a whole; ordinary texts of people are hardly ever
taken for talk (`tests/prompts/test_talk.py` holds the rates on public data). Every function takes time linear in the text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

KIND = (
    r"(?:texts?|messages?|comments?|reviews?|questions?|examples?|rewrites?|rewriting|versions?|outputs?|answers?|responses?"
    r"|results?|articles?|headlines?|posts?|tweets?|e-?mails?|sentences?|sms|tickets?|quer(?:y|ies)|passages?|documents?|items?"
    r"|drafts?|samples?)"
)
MADE = (
    r"(?:(?:the|a|an|my|your|one|new|rewritten|generated|final|revised|updated|synthetic|customer|user|sample|possible"
    r"|short) )*+"
)
_SURE = r"(?:sure|certainly|of course|okay|ok|absolutely|great|alright|no problem)"
_HERE = r"here(?:['’]s| is| are)\b"
_HERE_ELSEWHERE = r"(?:voici|hier (?:ist|sind)|aqu[ií]|ecco)\b"
_PREAMBLE = re.compile(
    rf"(?:{_SURE}\b|{_HERE}|{_HERE_ELSEWHERE}|below (?:is|are)\b|the following\b|{MADE}{KIND}\b)[^\n]{{0,160}}:[ \t]*+(?:\n+|$)",
    re.IGNORECASE,
)
_QUOTED_PREAMBLE = re.compile(
    rf"(?:{_SURE}\b|{_HERE})[^\n\"“]{{0,160}}:[ \t]*+(?=[\"“][^\"“”]++[\"”]\s*+\Z)", re.IGNORECASE
)
_HEADING = re.compile(
    rf"(?:#{{1,6}}[ \t]++)?(?:\*\*|__)?{MADE}{KIND}(?: \d{{1,2}})?[ \t]*+:?(?:\*\*|__)?[ \t]*+:?[ \t]*+\n\s*+",
    re.IGNORECASE,
)
_LEAD = re.compile(
    rf"(?:\*\*|__)?{MADE}{KIND}(?: \d{{1,2}})?(?:\*\*|__)?:(?:\*\*|__)?[ \t]++(?=\S)|[-*•][ \t]++", re.IGNORECASE
)
_CLOSING = re.compile(
    r"\W{0,4}(?:i hope (?:this|that|it) (?:helps|works|meets)|(?:please )?let me know if (?:you|i|this|there)"
    r"|(?:please )?feel free to (?:ask|let|reach|use|adjust|modify)|would you like (?:me|another|more))[^\n]{0,120}",
    re.IGNORECASE,
)

_LABEL_FIELD = r"labels?|categor(?:y|ies)|class(?:ification)?|sentiment|intent"
_TALK_FIELD = r"explanations?|reason(?:s|ing)?|rationale|justification|thoughts?|thinking|word count"
_FIELD = re.compile(
    rf"\W{{0,4}}(?:(?P<label>{_LABEL_FIELD})|(?P<talk>{_TALK_FIELD})|(?P<about>topics?|tags?|notes?|analysis|length|tone|style|changes)"
    rf"|(?P<text>{MADE}{KIND}))(?: \d{{1,2}})?\W{{0,4}}?"
    r"(?:[:=]|(?(label)(?<=[ \t])[-–—](?=[ \t].{1,60}$)|(?!)))\W{0,2}(?P<value>.*)",
    re.IGNORECASE,
)
_LABELLED = re.compile(
    r"\b(?:label|category|classification)(?:led|ed)? ?(?:[:=]|is\b|as\b)|\bunder the (?:label|category)\b",
    re.IGNORECASE,
)
_ASSISTS = re.compile(
    rf"\W{{0,4}}(?:(?:{_SURE}\b[!,.:]{{0,3}} )?(?:{_HERE} "
    rf"(?:the|an?|your|some|one|two|three|four|five|\d+)(?: \w+){{0,2}} {KIND}\b"
    r"|i(?:['’]ll|['’]d| will| would| can) (?:be happy|gladly|happily|help|write|rewrite|create|provide)"
    r"|please (?:provide|share|give)(?: me)? (?:with )?(?:the|a|some|more) (?:passage|text|label|message|detail|information)"
    r"|what (?:kind|type|sort) of (?:text|message|content|label|topic|passage)\b)"
    r"|(?:certainly|of course|absolutely|sure)\W{0,3}$"
    r"|i hope (?:this|that|it) (?:helps|works|meets|fits)"
    r"|(?:please )?let me know if (?:you(?:['’]d| would)? (?:need|like|want|have) "
    r"(?:any|more|another|further|other|changes|me to)|this )"
    r"|(?:please )?feel free to (?:ask|let me know|modify|adjust|use)|would you like (?:me to|another|more|any)\b)",
    re.IGNORECASE,
)
_CHATTY = re.compile(
    rf"\W{{0,4}}(?:{_SURE}[!,.:]|{_HERE}|i hope (?:this|that|it|you)\b|let me know\b|note that\b|would you like\b|feel free\b"
    r"|please (?:let me|note)\b|end of\b)",
    re.IGNORECASE,
)
_EXPLAINS = re.compile(
    rf"\W{{0,4}}(?:this|the|that|my|the above|above|in this|each)\b (?:new |rewritten |generated |resulting )?{KIND}\b"
    r"|\W{0,4}(?:it|this) (?:is|was|has been|clearly|would|should|belongs|falls|fits|reflects|matches|keeps|focuses|uses|captures"
    r"|conveys|expresses|shows|maintains) (?:clearly |about |an? |the |written |rewritten |meant )*+"
    rf"(?:labell?ed|classified|label|category|class|example|rewrit\w+|{KIND})\b",
    re.IGNORECASE,
)
_SO = r"\W{0,4}(?:(?:okay|ok|alright|hmm+|so|well|first|now|wait|right|got it)[,.!]? +)*+"
_WILL = (
    r"(?:i|we)(?:['’]ll| will| need to| have to| should| must| want to| am going to|['’]m going to| are going to| could| can"
    r"| might)"
)
_PLANS = re.compile(
    rf"{_SO}(?:the user (?:want|ask|is ask|need|gave|provid|has|said|request)"
    rf"|(?:{_WILL}|let(?: me|['’]s)|(?:my|the) task is to|i am asked to|to) "
    r"(?:write|rewrite|create|craft|draft|produce|generate|compose"
    rf"|come up with|think of|make up)\b[^.!?\n]{{0,60}}\b(?:{KIND}|label|scenario|customer|story)\b"
    r"|(?:my|the) task\b|let(?: me|['’]s) (?:think|try|start|analy[sz]e)\b"
    r"|the (?:given |source |original )?(?:passage|label|instructions?|guidelines?|prompt) "
    r"(?:is|are|says?|talks?|describes?|should|must|needs?|mentions?|has|could|can|does|asks?|wants?|requires?)\b)",
    re.IGNORECASE,
)
_THINKS = re.compile(
    rf"{_SO}(?:{_WILL} (?:mention|include|use the|make (?:it|this|sure)|avoid|keep (?:it|the)|focus on|think)|"
    rf"let(?: me|['’]s) (?:see|make)"
    r"|(?:the )?(?:source|request|goal) (?:is|says?|talks?|should|must|mentions?|asks?)\b)",
    re.IGNORECASE,
)
_RULED = re.compile(r"[ \t]*+(?:-{3,}|\*{3,}|={3,}|_{3,})[ \t]*+")
_TITLED = re.compile(r"[ \t]*+(?:#{1,6}[ \t]++\S.*|\*\*[^*\n]{1,100}\*\*:?[ \t]*+)")
_LISTED = re.compile(r"\s*+(?:[12][.)]|[-*•])\s")
_LEFTOVER = re.compile(
    r"</?(?:text|passage|label|answer|think\w*|reasoning|output|response)\b|<\||\|>|\[/?(?:INST|THINK)\]|```|~~~",
    re.IGNORECASE,
)

_SORRY = (
    r"(?:(?:i am|i['’]?m) (?:really |very |so |truly )?sorry|i apologi[sz]e|sorry|my apologies|apologies|unfortunately)"
)
_CANNOT = (
    r"(?:(?:i|we) (?:cannot|can['’]?t|can not|won['’]?t|will not|am unable to|am not able to|must decline to|have to decline to)"
    r"|i['’]?m (?:unable|not able) to)"
)
_REFUSES = re.compile(
    rf"\W{{0,4}}(?:{_SORRY}[\s,.;:!–—-]{{0,4}}(?:but |however,? |that )?)?{_CANNOT} (?:"
    r"(?:help|assist|comply|continue|proceed|engage|do|fulfil+) ?(?:you )?(?:with )?(?:that|this|your|such)? ?"
    r"(?:request|question|task|one|topic|content|matter)?(?:[.!,;]|$| (?:because|as|since)\b)"
    r"|(?:write|rewrite|create|generate|produce|provide|compose|fulfil+|complete|answer) (?:content\b"
    rf"|(?:an?|any|the|this|that|such|your|new|more)\b[^.!?\n]{{0,40}}?\b(?:request|task|content|{KIND})\b))"
    r"|\W{0,4}as an ai\b(?=,? (?:i\b|language|model|assistant|system|chatbot))"
    r"|\W{0,4}unable to (?:re)?write\b"
    r"|\W{0,4}es tut mir leid,[^.\n]{0,30}\bkann ich[^.\n]{0,40}\bnicht (?:helfen|schreiben|beantworten|erfüllen)"
    r"|\W{0,4}(?:désolée?|je suis désolée?),? (?:mais )?je ne (?:peux|puis) pas (?:vous )?(?:aider|écrire|répondre|faire cela)"
    r"|\W{0,4}lo siento,? (?:pero )?no puedo (?:ayudar|escribir|cumplir|hacer eso)"
    r"|\W{0,4}(?:抱歉|对不起|很抱歉)[，,]?我(?:无法|不能)|\W{0,4}申し訳(?:ありません|ございません)",
    re.IGNORECASE,
)


def refuses(text: str) -> bool:
    """Whether a text begins as a model does that says it will not or cannot do what it was asked for.

    Example:
        >>> refuses("I'm sorry, but I can't help with that."), refuses("I'm unable to log in since Monday.")
        (True, False)
    """
    return _REFUSES.match(text) is not None


def without_frame(text: str) -> str:
    """A text without what introduces it and what closes an answer: fields, an introduction, a heading, `I hope this helps`.

    Example:
        >>> without_frame("**Rewritten message:**\\n\\nMy parcel never came.")
        'My parcel never came.'
        >>> without_frame("Text: My parcel never came.\\nLabel: delivery")
        'My parcel never came.'
    """
    rest = _without_fields(text.strip())
    for frame in (_PREAMBLE, _QUOTED_PREAMBLE, _HEADING, _LEAD):
        if (found := frame.match(rest)) is not None:
            rest = rest[found.end() :].strip()
    head, found_break, last = rest.rpartition("\n\n")
    return head.rstrip() if found_break and _CLOSING.fullmatch(last.strip()) else rest


def is_talk(text: str, *, listed: bool = False) -> bool:
    """Whether something in an answer may be said about the text, rather than be part of it.

    Args:
        text: What is left of the answer.
        listed: It is an item of a list, so that a number at its beginning is its own.
    """
    lines = text.splitlines()
    several = sum(bool(line.strip()) for line in lines) > 1
    begins = True
    for number, line in enumerate(lines):
        if not line.strip():
            begins = True
            continue
        field = _FIELD.fullmatch(line)
        if field and (field["label"] or field["talk"] or (field["about"] and several) or _PLANS.match(field["value"])):
            return True
        if _LEFTOVER.search(line) or _LABELLED.search(line) or _PLANS.match(line) or (begins and _ASSISTS.match(line)):
            return True
        if _LISTED.match(line) and not listed:
            return True
        if several and (_RULED.fullmatch(line) or _TITLED.fullmatch(line) or _THINKS.match(line)):
            return True
        if several and ((number and _EXPLAINS.match(line)) or (begins and _CHATTY.match(line))):
            return True
        begins = False
    return False


def _without_fields(text: str) -> str:
    """The text of an answer that is a block of fields (`Text: ...`, `Label: ...`) with exactly one for a text."""
    lines = text.splitlines()
    fields: Sequence[re.Match[str] | None] = [_FIELD.fullmatch(line) for line in lines]
    if not fields or fields[0] is None or all(field is None or field["text"] for field in fields):
        return text
    at = [(number, field) for number, field in enumerate(fields) if field and field["text"]]
    if len(at) != 1:
        return text
    first, field = at[0]
    after = next((number for number in range(first + 1, len(lines)) if fields[number]), len(lines))
    return "\n".join([field["value"], *lines[first + 1 : after]]).strip()
