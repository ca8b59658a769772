"""`denoise`: from the votes of accepted programs to a probability per label for every text; `audit`, `ask`, `read_answers`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from factory.canonical import digest
from factory.denoise.decide import UNCOVERED
from factory.denoise.models.table import MODELS
from factory.denoise.parameters import balance_shares, default_number
from factory.denoise.read import accepted_programs, read_texts, votes_digest
from factory.denoise.solve import features_of, problems_of, solve
from factory.denoise.write import plan_rows, store
from factory.errors import InputError
from factory.result import Progress, StageResult, no_progress
from factory.review.ask import ask, read_answers
from factory.review.audit import audit
from factory.task import current_card, label_names
from factory.warehouse.tables.gold import dev_gold, disagreements, gold_digest

if TYPE_CHECKING:
    from factory.warehouse.file import Warehouse

__all__ = ["ask", "audit", "denoise", "read_answers"]


def denoise(
    warehouse: Warehouse,
    *,
    model: str = "auto",
    uncovered: Literal["drop", "prior", "default", "ask"] = "drop",
    default_label: str | None = None,
    balance: list[float] | dict[str, float] | None = None,
    use_dev: bool = False,
    encoder: str | None = "auto",
    encode_at_most: int = 50_000,
    seed: int = 0,
    options: dict[str, Any] | None = None,
    progress: Progress = no_progress,
) -> StageResult:
    """Fit label models on the votes on train texts, and store the probabilities of every text.

    Majority vote and Snorkel's label model are always stored; `chosen` marks the model that students learn from, and
    `reason` says why. In the configuration, `systems` names the students it is for: the one chosen without dev gold is for
    `student`, and with `use_dev` the one chosen on dev is for `student_dev`.

    Args:
        warehouse: Where programs and votes are, and the labels go.
        model: A key of `factory.denoise.models.table.MODELS`, or `auto`.
        uncovered: What texts without any vote get: nothing is learned from them (`drop`), the class shares (`prior`), the
            default label (`default`), or they are to be asked about (`ask`).
        default_label: For `uncovered: default`; the task card's if not given.
        balance: Class shares, as a list in label order or by name; uniform if not given.
        use_dev: Also choose on dev gold, for the system `student_dev`.
        encoder: Where the vectors of texts come from that the joint model looks at (`single` tasks); None or "none": only votes.
        encode_at_most: No vectors are made for more texts than this.
        seed: Of the models that draw.
        options: Parameters of the model, by name.
        progress: Told of the models fitted.

    Raises:
        InputError: No accepted programs, no votes on train texts, or a parameter that cannot be used.
    """
    card = current_card(warehouse)
    names = label_names(warehouse)
    if model != "auto" and model not in MODELS:
        raise InputError(f"there is no label model `{model}`", fix=f"Use auto, {', '.join(MODELS)}")
    if uncovered not in UNCOVERED:
        raise InputError(f"`uncovered: {uncovered}` is not known", fix=f"Use one of {', '.join(UNCOVERED)}")
    default = default_number(card, names, default_label, uncovered)
    shares = balance_shares(card, names, balance)
    config = {
        "model": model,
        "uncovered": uncovered,
        "default": default,
        "balance": shares,
        "use_dev": use_dev,
        "encoder": None if encoder in (None, "none") else encoder,
        "encode_at_most": encode_at_most,
        "seed": seed,
        "options": options or {},
        "kind": card.kind,
    }
    key = digest(
        {"config": config, "content": votes_digest(warehouse), "dev": gold_digest(warehouse, "dev") if use_dev else None}
    )
    done = warehouse.query(
        "SELECT name, config->>'systems', reason FROM label_models WHERE key = ? AND chosen ORDER BY label_model_no",
        [key],
    )
    if done:
        return StageResult("denoise", True, {"chosen": {name: json.loads(systems) for name, systems, _ in done}})
    programs = accepted_programs(warehouse)
    if not programs:
        raise InputError(
            "there are no accepted programs to denoise", fix="Run `author` and `vote` first, or approve a program"
        )
    texts = read_texts(warehouse)
    if not texts.train.any():
        raise InputError("there are no training texts", fix="Give `ingest` a split `train`")
    dev = dev_gold(warehouse) if use_dev else {}
    problems = list(problems_of(card, names, programs, shares))
    settings = {"snorkel": {"seed": seed}, **({model: dict(options)} if options and model != "auto" else {})}
    if options and model in ("snorkel",):
        settings["snorkel"] = {"seed": seed, **options}
    features = None
    if card.kind == "single" and model in ("auto", "joint") and config["encoder"]:
        features = features_of(warehouse, texts, str(encoder), encode_at_most, progress)
    solved = []
    for done_so_far, problem in enumerate(problems):
        progress(done_so_far, len(problems), f"label models for {problem.title}")
        solved.append(solve(warehouse, texts, problem, model, settings, dev if use_dev else None, features))
    covered = np.zeros(len(texts.numbers), bool)
    for part in solved:
        covered |= part.votes.covered[part.pattern]
    if not (covered & texts.train).any():
        raise InputError(
            "no accepted program votes on any training text",
            fix="Run `vote`, or write programs that fire on these texts",
        )
    plan = plan_rows(solved, config, key)
    store(warehouse, texts, covered, solved, plan, card, names, uncovered=uncovered, default=default, progress=progress)
    n_train = int(texts.train.sum())
    share = float((covered & texts.train).sum()) / n_train
    facts = {
        "programs": len(programs),
        "train_texts": n_train,
        "coverage": round(share, 4),
        "patterns": int(sum(len(part.votes) for part in solved)),
        "chosen": {row.name: row.systems for row in plan if row.systems},
        "uncovered": uncovered,
    }
    says = [
        f"{len(programs)} programs cover {share:.1%} of {n_train} training texts; the rest: {uncovered}",
        *(f"{row.name} for {', '.join(row.systems)}: {row.reason}" for row in plan if row.systems),
        *dict.fromkeys(warning for part in solved for warning in part.warnings),
        *(disagreements(warehouse, "dev") if use_dev else ()),
    ]
    return StageResult("denoise", False, facts, tuple(says))
