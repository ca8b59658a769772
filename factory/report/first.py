"""The first sentence of a report: what a reader must know before any figure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from factory.evaluation.rivals import combination, size_of

ENOUGH = 1.1
"""How many times the labels at hand the money must have bought before it is said that there are too few of them."""


def first_of(evaluation: Mapping[str, Any] | None, audit: Mapping[str, Any] | None, metric: str) -> list[str]:
    """The sentences at the top: first of a model that is no better than an encoder, then of a student that is below its label
    model, then of labels alone, then the verdict.

    Args:
        evaluation: `systems` by name as `record.summary` gives them, and `verdict` in words; None without a test.
        audit: From `audit.audit_of`.
        metric: What the score is, in words.
    """
    if evaluation is None:
        return without_gold(audit)
    systems = evaluation["systems"]
    told = (below(name, systems, metric) for name in ("student", "combined"))
    return [
        said
        for said in (of_little_use(systems, metric), *told, rival_in_words(systems, metric), evaluation["verdict"])
        if said
    ]


def of_little_use(systems: Mapping[str, Mapping[str, Any]], metric: str) -> str | None:
    """That the model's labels or programs are no better than the encoder's zero-shot; None where they are, or nobody knows."""
    if "zero_shot" not in systems:
        return None
    encoder = systems["zero_shot"]["score"]
    made = {"teacher": "own labels", "majority": "programs, by majority vote,"}
    worse = {words: systems[name]["score"] for name, words in made.items() if name in systems}
    worse = {words: score for words, score in worse.items() if score <= encoder}
    if not worse:
        return None
    told = " and its ".join(f"{words} ({metric} {score:.3f})" for words, score in worse.items())
    return (
        f"The language model's {told} are no better than the encoder with the labels' descriptions alone ({encoder:.3f}): this"
        " model is of little use for that on these texts. `factory engine check --aptitude` tells so of a model beforehand."
    )


def below(student: str, systems: Mapping[str, Mapping[str, Any]], metric: str) -> str | None:
    """That a student does worse than the label model that taught it; None where it does not."""
    versus = systems.get(student, {}).get("versus_label_model")
    if versus is None or versus["difference"] >= 0:
        return None
    ours, theirs = systems[student]["score"], systems[versus["less"]]["score"]
    return (
        f"The student `{student}` is below the label model that taught it{_noise(versus)}: {metric} {ours:.3f}, and"
        f" `{versus['less']}` has {theirs:.3f} ({_interval(versus)})."
    )


def rival_in_words(systems: Mapping[str, Mapping[str, Any]], metric: str) -> str | None:
    """What the model's labels alone do against what the line made; None where one of them is not there.

    Args:
        systems: By name, with `score`, `spent`, and `versus_combination` of rivals.
        metric: What the score is, in words.
    """
    rivals = [name for name in systems if size_of(name) is not None and systems[name].get("versus_combination")]
    mine = combination(systems)
    if mine is None or not rivals:
        return None
    most = max(size_of(name) or 0 for name in rivals)
    rival = max((name for name in rivals if size_of(name) == most), key=lambda name: systems[name]["score"])
    ours, theirs = systems[mine], systems[rival]
    versus = theirs["versus_combination"]
    does = (
        "as well, within noise" if versus["low"] <= 0 <= versus["high"] else "worse" if versus["low"] > 0 else "better"
    )
    told = [
        f"{row['score']:.3f} for {row['spent']['requests']:,} requests and {row['spent']['tokens']:,} tokens"
        for row in (theirs, ours)
    ]
    bought = int(ours["spent"]["tokens"] * most / theirs["spent"]["tokens"]) if theirs["spent"]["tokens"] else 0
    more = (
        f" There are no more labels at hand; what `{mine}` spent would have bought some {bought:,}, so this is no comparison at"
        " equal money." if bought > ENOUGH * most else ""
    )  # fmt: skip
    return (
        f"The same student on {most:,} labels of the language model alone does {does}: {metric} {told[0]}; `{mine}` has {told[1]}"
        f" ({_interval(versus)}).{more}"
    )


def without_gold(audit: Mapping[str, Any] | None) -> list[str]:
    """What a report without a score begins with: one sentence, and what labels alone or the label model do better."""
    none = "There is no score, as no gold of `test` was given"
    rows = {row["system"]: row for row in (audit or {}).get("systems", ())}
    if audit is None or audit["mine"] is None:
        return [f"{none}, and no audit slice says how often anybody agrees with the labels."]
    mine = rows[audit["mine"]]
    agrees = f"`{mine['system']}` agrees with the language model on {mine['words']} texts drawn at random"
    said = f"{none}: {agrees}, and how often that is right nobody has said yet."
    if mine["accuracy"] is not None:
        right = (
            f"by people's answers `{mine['system']}` is right on an estimated {mine['accuracy']['words']} of the texts"
        )
        said = f"{none}: {right}; {agrees}."
    taught_by, sizes = (
        rows.get(audit["taught_by"]),
        {name: size for name in rows if (size := size_of(name)) is not None},
    )
    below = [taught_by] if taught_by and taught_by["share"] > mine["share"] else []
    more = [f"The label model that taught it, `{row['system']}`, agrees more often: {row['words']}." for row in below]
    alone = rows[max(sizes, key=lambda name: (sizes[name], rows[name]["share"]))] if sizes else None
    if alone is not None and alone["share"] >= mine["low"]:
        more.append(
            f"The same student on {sizes[alone['system']]:,} labels of the language model alone agrees with it as often, within"
            f" noise: {alone['words']}."
        )
    return [said, *more]


def _noise(versus: Mapping[str, float]) -> str:
    return " beyond noise" if versus["high"] < 0 else ", within noise"


def _interval(versus: Mapping[str, float]) -> str:
    what = f"`{versus['of']}` less `{versus['less']}`"
    return f"{what}: {versus['difference']:+.3f}, 95% {versus['low']:+.3f} to {versus['high']:+.3f}"
