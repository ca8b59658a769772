"""`denoise`: from the votes of accepted programs to a probability per label for every text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, field_validator

from factory.canonical import digest
from factory.denoise.decide import tie_keys
from factory.denoise.models.table import MODELS, check_options
from factory.denoise.problems import Features, problems_of, voters_of
from factory.denoise.solve import Solved, solve
from factory.denoise.write import Filling, covered_texts, plan_models, store
from factory.encoders.settings import Named
from factory.errors import InputError, nearest
from factory.params import Call, Params, stage
from factory.result import Progress, StageResult
from factory.task import TaskCard, current_card, label_names
from factory.warehouse.tables.gold import dev_gold, disagreements, gold_digest
from factory.warehouse.tables.labels import chosen_for
from factory.warehouse.tables.texts import Texts, hashes_of, labelled_texts
from factory.warehouse.tables.votes import votes_digest

if TYPE_CHECKING:
    from factory.encoders.base import Encoder
    from factory.warehouse.file import Warehouse

UNSURE = 0.1
"""Labels whose likeliest class gets less than this part of the way from an equal share to certainty teach next to nothing."""
OTHERS = {
    "drop": "nothing is learned from the others",
    "prior": "the others get the class shares",
    "default": "the others get the default label",
    "ask": "the others are to be asked about",
}


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
        None, description="Class shares, as a list in label order or by name. Uniform by default: without gold nobody knows them."
    )  # fmt: skip
    use_dev: bool = Field(
        False, description="Also choose on dev gold, for the system `student_dev`. Off, since there may be none."
    )
    encoder: Named | None = Field(
        "auto",
        description="Where the vectors of texts come from that the joint model looks at (`single` tasks); none: only votes."
        " `auto` is what `distill: {encoder: auto}` takes: the vectors are needed by the student anyway.",
    )
    encode_at_most: int = Field(
        20_000, ge=0, description="No vectors are made for more texts than this: label models then look at votes alone, and a"
        " student needs the vectors of a share.",
    )  # fmt: skip
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
    check_options(model, options)
    filling = Filling(uncovered, _default_number(card, names, params.default_label, uncovered))
    shares = _balance_shares(card, names, params.balance)
    wanted = None if params.encoder == "none" else params.encoder
    looking = _encoder(warehouse, card, model, wanted)
    config = {
        **params.model_dump(exclude={"default_label"}), "default": filling.default, "balance": shares, "encoder": wanted,
        "encoder_key": None if looking is None else looking.key, "options": options, "kind": card.kind,
    }  # fmt: skip
    dev_digest = gold_digest(warehouse, "dev") if use_dev else None
    key = digest({"config": config, "content": votes_digest(warehouse), "dev": dev_digest})
    done = chosen_for(warehouse, key)
    if done:
        return StageResult("denoise", True, {"chosen": done})
    call.begin()
    voters = voters_of(warehouse)
    if not voters:
        fix = "Run `author` and `vote` first, or approve a program"
        raise InputError("there are no accepted programs to denoise", fix=fix)
    texts = labelled_texts(warehouse)
    if not texts.train.any():
        raise InputError("there are no training texts", fix="Give `ingest` a split `train`")
    dev = dev_gold(warehouse) if use_dev else None
    problems = list(problems_of(card, names, voters, shares))
    settings: dict[str, dict[str, Any]] = {"snorkel": {"seed": params.seed}}
    if options:
        settings[model] = {**settings.get(model, {}), **options}
    features = None if looking is None else _features(warehouse, texts, looking, model, params.encode_at_most, progress)
    solved = []
    for at, problem in enumerate(problems):
        progress(at, len(problems), "label models fitted")
        solved.append(solve(warehouse, texts, problem, model, settings, dev, features))
    covered = covered_texts(solved, len(texts.numbers)) & texts.train
    if not covered.any():
        fix = "Run `vote`, or write programs that fire on these texts"
        raise InputError("no accepted program votes on any training text", fix=fix)
    planned = plan_models(solved)
    sure = store(
        warehouse, texts, solved, planned, card, names, key=key, config=config, filling=filling, progress=progress
    )
    n_train, share = int(texts.train.sum()), float(covered.sum()) / int(texts.train.sum())
    programs = sum(not voter.person for voter in voters)
    people = len({voter.name for voter in voters if voter.person})
    chosen, refused = [row for row in planned if row.systems], _refusals(solved)
    facts = {
        "programs": programs, "people": people, "train_texts": n_train, "coverage": round(share, 4),
        "patterns": sum(len(part.votes) for part in solved), "chosen": {row.name: list(row.systems) for row in chosen},
        "sureness": {name: round(value, 4) for name, value in sure.items()},
        "scores": {part.problem.title: dict(list(part.choices.values())[-1][1].scores) for part in solved},
        "refused": refused, "uncovered": uncovered,
    }  # fmt: skip
    classes = len(problems[0].class_of)
    says = [
        f"{_who(programs, people)} cover {share:.1%} of {n_train} training texts; {OTHERS[uncovered]}",
        *(f"{row.name} for {', '.join(row.systems)}: {row.reason}" for row in chosen),
        *(f"{name} is left out: {reason}" for name, reason in refused.items()),
        *(_unsure(row.name, classes, sure[row.name]) for row in chosen if sure[row.name] < UNSURE),
        *dict.fromkeys(warning for part in solved for warning in part.warnings),
        *(disagreements(warehouse, "dev") if use_dev else ()),
    ]
    return StageResult("denoise", False, facts, tuple(says))


def _default_number(card: TaskCard, names: list[str], given: str | None, uncovered: str) -> int | None:
    """Label number of the default label, or None where none is needed."""
    name = given or card.default_label
    if uncovered != "default" or (name is None and card.kind == "multi"):
        return None
    if name is None:
        fix = "Set `default_label` in the task card or in the denoise step"
        raise InputError("`uncovered: default` needs a default label", fix=fix)
    if name not in card.label_names:
        known = ", ".join(card.label_names)
        raise InputError(f"default_label {name!r} is not one of the labels", fix=f"Use one of {known}")
    return names.index(name)


def _balance_shares(
    card: TaskCard, names: list[str], balance: list[float] | dict[str, float] | None
) -> dict[str, float] | None:
    """Class shares by label name."""
    if balance is None:
        return None
    if isinstance(balance, list):
        if len(balance) != len(card.label_names):
            raise InputError(f"`balance` has {len(balance)} shares, and the task has {len(card.label_names)} labels")
        balance = dict(zip(card.label_names, balance, strict=True))
    unknown = [name for name in balance if name not in card.label_names]
    missing = [name for name in card.label_names if name not in balance] if card.kind == "single" else []
    if unknown or missing:
        raise InputError(f"`balance`: {'unknown' if unknown else 'no share for'} label {(unknown or missing)[0]!r}")
    if any(not 0 < share < 1 for share in balance.values()):
        raise InputError("every share of `balance` is above 0 and below 1")
    return {name: float(share) for name, share in balance.items()}


def _encoder(warehouse: Warehouse, card: TaskCard, model: str, name: Named | None) -> Encoder | None:
    """Whose vectors the joint model looks at, if it may be fitted."""
    if name is None or card.kind != "single" or model not in ("auto", "joint"):
        return None
    from factory.encoders.encoder import load_encoder

    return load_encoder(name, warehouse)


def _features(
    warehouse: Warehouse, texts: Texts, encoder: Encoder, model: str, at_most: int, progress: Progress
) -> Features | None:
    if len(texts.numbers) > at_most:
        if model == "joint":
            words = (
                f"the joint model needs the vectors of {len(texts.numbers)} texts, and `encode_at_most` is {at_most}"
            )
            raise InputError(words, fix="Raise `encode_at_most`, or use `dawid_skene_prior`")
        return None
    from factory.encoders.vectors import vectors_of

    numbers = texts.numbers.tolist()
    hashes = hashes_of(warehouse, numbers)
    return Features(vectors_of(warehouse, encoder, numbers, progress), tie_keys(hashes[number] for number in numbers))


def _who(programs: int, people: int) -> str:
    """The voters in words: `15 programs and the answers of 1 person`."""
    words = [f"{programs} program{'s' * (programs != 1)}"] if programs else []
    words += [f"the answers of {people} {'person' if people == 1 else 'people'}"] if people else []
    return " and ".join(words)


def _refusals(solved: Sequence[Solved]) -> Mapping[str, str]:
    """Why label models could not be fitted, by name; of many labels the commonest reason, and how many there are."""
    found: dict[str, Counter[str]] = {}
    for part in solved:
        for name, reason in part.refused.items():
            found.setdefault(name, Counter())[reason] += 1
    told = {}
    for name, reasons in found.items():
        reason, _ = reasons.most_common(1)[0]
        told[name] = reason if len(solved) == 1 else f"{reason} (for {reasons.total()} of {len(solved)} labels)"
    return told


def _unsure(name: str, classes: int, sureness: float) -> str:
    likeliest = 1 / classes + sureness * (1 - 1 / classes)
    return (
        f"the labels by {name} are nearly uniform: the likeliest of {classes} gets {likeliest:.2f} on average, so a student"
        " learns next to nothing from them"
    )
