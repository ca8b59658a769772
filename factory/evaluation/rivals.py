"""Rivals: the same student on N labels of the language model alone, and what every system's labels were bought with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from factory.evaluation.gold_students import Inputs, pick, predictions_of, recipe_of, train
from factory.evaluation.systems import LabelSpace, Predictions

if TYPE_CHECKING:
    from factory.result import Progress
    from factory.warehouse.file import Warehouse
    from factory.warehouse.tables.gold import Gold

PREFIX = "teacher_labels_"
BOUGHT: Mapping[str, tuple[str, ...]] = {
    "student": ("author", "synthesize", "votes"), "student_dev": ("author", "synthesize", "votes"),
    "student_setfit": ("author", "synthesize", "votes"), "synthesis_only": ("synthesize",),
    "programs_only": ("author", "votes"), "combined": ("author", "votes", "anchors"), "mixture": ("author", "votes", "anchors"),
    "glass_box": ("author", "votes", "anchors"), "teacher": ("test",), "self_tuned": ("test",),
}  # fmt: skip
"""What a system's labels are made of; other label models are bought with the programs. `votes`, `anchors` and `test` are parts of
`annotate`."""
FREE = ("zero_shot", "dev_only", "full_gold", "human_lfs", "human_lfs_content_ties")


def teacher_labels(
    warehouse: Warehouse,
    inputs: Inputs,
    gold: Gold,
    hashes: Sequence[bytes],
    shape: LabelSpace,
    sizes: Sequence[int],
    progress: Progress,
) -> dict[str, Predictions]:
    """The student's recipe on the model's labels of training texts alone, in the order in which they were drawn.

    Args:
        warehouse: Where the labels and the student are.
        inputs: What students predict on.
        gold: Of test.
        hashes: Content hashes of its texts.
        shape: What labels there are.
        sizes: How many labels; those that are fewer than there are, and all.
        progress: Called with (done, total, what).

    Returns:
        The systems, `teacher_labels_N` for each size.
    """
    from factory.students.stored import stored_models

    models = stored_models(warehouse)
    model = models.get("student") or models.get("combined") or next(iter(models.values()), None)
    labels = model_labels(warehouse)
    if model is None or not labels:
        return {}
    recipe = recipe_of(model, shape.multi)
    column = {number: at for at, number in enumerate(recipe.label_nos)}
    texts = np.array([text_no for text_no, _, _ in labels], np.int32)
    targets = np.zeros((len(labels), len(column)))
    for row, (_, numbers, _) in enumerate(labels):
        targets[row, [column[number] for number in numbers if number in column]] = 1.0
    on_test = inputs.of(recipe.vectoriser, gold.texts, progress)
    learned_from = inputs.of(recipe.vectoriser, texts, progress)
    found = {}
    for size in sorted({min(size, len(labels)) for size in (*sizes, len(labels))}):
        rows = np.arange(size)
        if not shape.multi and (targets[rows].sum(axis=0) > 0).sum() < 2:
            continue
        fitted = train(recipe, pick(learned_from, rows), targets[rows], np.ones(size))
        tokens = sum(cost for _, _, cost in labels[:size])
        facts = {"labels": size, "spent": {"requests": size, "tokens": tokens}}
        found[f"{PREFIX}{size}"] = predictions_of(fitted, recipe, on_test, hashes, shape, facts)
    return found


def model_labels(warehouse: Warehouse) -> list[tuple[int, frozenset[int], int]]:
    """`(text_no, label numbers, tokens)` of every training text that the model labelled, in the order in which they were drawn.

    Answers that are votes, and those of an adapter, are left out; of a text that was asked twice the first plan's answer counts.
    """
    rows = warehouse.query(
        """WITH asked AS (
               SELECT a.* FROM annotations a JOIN plans p USING (plan_no)
               WHERE a.text_no IN (SELECT text_no FROM split_texts WHERE split = 'train')
               AND p.config ->> '$.adapter' IS NULL AND a.label_no IS NOT NULL
               QUALIFY a.plan_no = min(a.plan_no) OVER (PARTITION BY a.text_no))
           SELECT asked.plan_no, slot_no, text_no, list(label_no), any_value(coalesce(s.tokens_in, 0) + coalesce(s.tokens_out, 0))
           FROM asked LEFT JOIN answers s USING (request_key, sample_no) GROUP BY ALL ORDER BY ALL"""
    )
    return [
        (int(text_no), frozenset(int(number) for number in numbers if number >= 0), int(tokens))
        for _, _, text_no, numbers, tokens in rows
    ]


def spent_on(warehouse: Warehouse, systems: Sequence[str]) -> dict[str, dict[str, int]]:
    """Requests and tokens that each system's labels were bought with, by name; systems of others are left out."""
    parts = _parts(warehouse)
    found = {}
    for name in systems:
        if name.startswith(PREFIX):
            continue
        stages = () if name in FREE else BOUGHT.get(name, ("author", "votes"))
        bought = [parts[stage] for stage in stages if stage in parts]
        found[name] = {"requests": sum(n for n, _ in bought), "tokens": sum(tokens for _, tokens in bought)}
    return found


def in_words(systems: Mapping[str, Mapping[str, Any]], metric: str) -> str | None:
    """What the model's labels alone do against what the line made, in a sentence; None where one of them is not there.

    Args:
        systems: By name, with `score`, `ci95` and `spent`.
        metric: What the score is, in words.
    """
    mine = next((name for name in ("combined", "student") if name in systems), None)
    rivals = [name for name in systems if name.startswith(PREFIX)]
    if mine is None or not rivals:
        return None
    rival = max(rivals, key=lambda name: int(name.removeprefix(PREFIX)))
    ours, theirs = systems[mine], systems[rival]
    low, high = ours["ci95"] or (ours["score"], ours["score"])
    does = (
        "does worse"
        if theirs["score"] < low
        else "does better"
        if theirs["score"] > high
        else "does as well, within noise"
    )
    told = [
        f"{row['score']:.3f} for {row['spent']['requests']:,} requests and {row['spent']['tokens']:,} tokens"
        for row in (theirs, ours)
    ]
    return (
        f"The same student on {int(rival.removeprefix(PREFIX)):,} labels of the language model alone {does}: {metric} {told[0]};"
        f" `{mine}` has {told[1]}."
    )


def _parts(warehouse: Warehouse) -> dict[str, tuple[int, int]]:
    """Requests and tokens of `author` and `synthesize`, and of the parts of `annotate`."""
    parts = {
        stage: (int(requests), int(tokens))
        for stage, requests, tokens in warehouse.query(
            "SELECT stage, sum(requests), sum(tokens_in + tokens_out) FROM spend WHERE stage <> 'annotate' GROUP BY stage"
        )
    }
    for part, requests, tokens in warehouse.query(
        """WITH said AS (SELECT DISTINCT s.request_key, s.sample_no,
                   CASE WHEN p.config ->> '$.split' = 'test' THEN 'test' WHEN (p.config ->> '$.as_votes')::BOOLEAN THEN 'votes'
                        WHEN p.config ->> '$.anchors' IS NOT NULL THEN 'anchors' ELSE 'labels' END AS part
               FROM slots s JOIN plans p USING (plan_no) WHERE p.stage = 'annotate' AND s.request_key IS NOT NULL)
           SELECT part, count(*), coalesce(sum(coalesce(tokens_in, 0) + coalesce(tokens_out, 0)), 0)
           FROM said LEFT JOIN answers USING (request_key, sample_no) GROUP BY part"""
    ):
        parts[part] = (int(requests), int(tokens))
    return parts
