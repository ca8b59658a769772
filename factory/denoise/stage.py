"""`denoise`: from the votes of accepted programs to a probability per label for every text; `audit`, `ask`, `read_answers`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field, field_validator

from factory.canonical import digest
from factory.denoise.models.table import MODELS
from factory.denoise.parameters import balance_shares, default_number
from factory.denoise.read import accepted_programs, dev_digest, read_dev, read_texts, votes_digest
from factory.denoise.solve import features_of, problems_of, solve
from factory.denoise.write import plan_rows, store
from factory.errors import InputError, nearest
from factory.params import Call, Params, stage
from factory.result import StageResult
from factory.review.ask import ask, read_answers
from factory.review.audit import audit
from factory.task import current_card, label_names

if TYPE_CHECKING:
    from factory.warehouse.file import Warehouse

__all__ = ["ask", "audit", "denoise", "read_answers"]


class DenoiseParams(Params):
    """The parameters of `denoise`."""

    model: str = Field(
        "auto",
        description="The label model that students learn from: a name of the table of models, or `auto`, which fits those that"
        " suit the votes and chooses without gold. Majority vote and Snorkel's are stored beside it in any case.",
    )
    uncovered: Literal["drop", "prior", "default", "ask"] = Field(
        "drop",
        description="What texts without any vote get: nothing is learned from them (`drop`), the class shares (`prior`), the"
        " default label (`default`), or they are to be asked about (`ask`). To drop them teaches nothing wrong.",
    )
    default_label: str | None = Field(None, description="For `uncovered: default`; the task card's by default.")
    balance: list[float] | dict[str, float] | None = Field(
        None,
        description="Class shares, as a list in label order or by name. Uniform by default: without gold nobody knows them.",
    )
    use_dev: bool = Field(
        False, description="Also choose on dev gold, for the system `student_dev`. Off, since there may be none."
    )
    encoder: str | None = Field(
        "auto",
        description="Where the vectors of texts come from that the joint model looks at (`single` tasks); none: only votes."
        " `auto` takes the packaged encoder: the vectors are needed by the student anyway.",
    )
    encode_at_most: int = Field(
        50_000,
        ge=0,
        description="No vectors are made for more texts than this: a quarter of an hour's work on a small machine.",
    )
    seed: int = Field(0, ge=0, description="Of the models that draw.")
    options: dict[str, Any] | None = Field(
        None, description="Parameters of the model, by name; its own defaults by default."
    )

    @field_validator("model")
    @classmethod
    def _known(cls, model: str) -> str:
        if model != "auto" and model not in MODELS:
            raise ValueError(f"there is no label model `{model}`{nearest(model, MODELS)} Use auto, {', '.join(MODELS)}")
        return model


@stage("denoise", DenoiseParams)
def denoise(warehouse: Warehouse, params: DenoiseParams, call: Call) -> StageResult:
    """Fit label models on the votes on train texts, and store the probabilities of every text.

    Majority vote and Snorkel's label model are always stored; `chosen` marks the model that students learn from, and
    `reason` says why. In the configuration, `systems` names the students it is for: the one chosen without dev gold is for
    `student`, and with `use_dev` the one chosen on dev is for `student_dev`.

    Raises:
        InputError: No accepted programs, no votes on train texts, or a parameter that cannot be used.
    """
    card = current_card(warehouse)
    names = label_names(warehouse)
    model, uncovered, use_dev, progress = params.model, params.uncovered, params.use_dev, call.progress
    options = params.options or {}
    default = default_number(card, names, params.default_label, uncovered)
    shares = balance_shares(card, names, params.balance)
    config = {
        **params.model_dump(exclude={"default_label"}),
        "default": default,
        "balance": shares,
        "encoder": None if params.encoder == "none" else params.encoder,
        "options": options,
        "kind": card.kind,
    }
    key = digest(
        {"config": config, "content": votes_digest(warehouse), "dev": dev_digest(warehouse) if use_dev else None}
    )
    done = warehouse.query(
        "SELECT name, config->>'systems', reason FROM label_models WHERE key = ? AND chosen ORDER BY label_model_no",
        [key],
    )
    if done:
        return StageResult("denoise", True, {"chosen": {name: json.loads(systems) for name, systems, _ in done}})
    call.begin()
    programs = accepted_programs(warehouse)
    if not programs:
        raise InputError(
            "there are no accepted programs to denoise", fix="Run `author` and `vote` first, or approve a program"
        )
    texts = read_texts(warehouse)
    if not texts.train.any():
        raise InputError("there are no training texts", fix="Give `ingest` a split `train`")
    dev = read_dev(warehouse) if use_dev else {}
    problems = list(problems_of(card, names, programs, shares))
    settings = {"snorkel": {"seed": params.seed}, **({model: dict(options)} if options and model != "auto" else {})}
    if options and model == "snorkel":
        settings["snorkel"] = {"seed": params.seed, **options}
    features = None
    if card.kind == "single" and model in ("auto", "joint") and config["encoder"]:
        features = features_of(warehouse, texts, str(params.encoder), params.encode_at_most, progress)
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
    ]
    return StageResult("denoise", False, facts, tuple(says))
