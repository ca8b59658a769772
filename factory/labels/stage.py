"""`denoise`: from the votes of accepted programs to a probability per label for every text."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from factory.canonical import digest
from factory.errors import InputError
from factory.labels import auto as choosing
from factory.labels.base import LabelModel
from factory.labels.decide import UNCOVERED, decide, fill_uncovered
from factory.labels.models import MODELS
from factory.labels.reading import Program, Texts, accepted_programs, read_texts, read_votes, votes_digest
from factory.labels.votes import VoteSet
from factory.result import Progress, StageResult, no_progress
from factory.task import TaskCard, current_card, label_names

if TYPE_CHECKING:
    from factory.warehouse import Warehouse

WRITE_ROWS = 500_000
ALWAYS = ("majority", "snorkel")


def denoise(
    warehouse: Warehouse,
    *,
    model: str = "auto",
    uncovered: Literal["drop", "prior", "default", "ask"] = "drop",
    default_label: str | None = None,
    balance: list[float] | dict[str, float] | None = None,
    use_dev: bool = False,
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
        model: A key of `factory.labels.models.MODELS`, or `auto`.
        uncovered: What texts without any vote get: nothing is learned from them (`drop`), the class shares (`prior`), the
            default label (`default`), or they are to be asked about (`ask`).
        default_label: For `uncovered: default`; the task card's if not given.
        balance: Class shares, as a list in label order or by name; uniform if not given.
        use_dev: Also choose on dev gold, for the system `student_dev`.
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
    default = _default(card, names, default_label, uncovered)
    shares = _balance(card, names, balance)
    config = {
        "model": model,
        "uncovered": uncovered,
        "default": default,
        "balance": shares,
        "use_dev": use_dev,
        "seed": seed,
        "options": options or {},
        "kind": card.kind,
    }
    key = digest(
        {"config": config, "content": votes_digest(warehouse), "dev": _dev_digest(warehouse) if use_dev else None}
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
    dev = _read_dev(warehouse) if use_dev else {}
    problems = list(_problems(card, names, programs, shares))
    settings = {"snorkel": {"seed": seed}, **({model: dict(options)} if options and model != "auto" else {})}
    if options and model in ("snorkel",):
        settings["snorkel"] = {"seed": seed, **options}
    solved = []
    for done_so_far, problem in enumerate(problems):
        progress(done_so_far, len(problems), f"label models for {problem.title}")
        solved.append(_solve(warehouse, texts, problem, model, settings, dev if use_dev else None))
    covered = np.zeros(len(texts.numbers), bool)
    for part in solved:
        covered |= part.votes.covered[part.pattern]
    if not (covered & texts.train).any():
        raise InputError(
            "no accepted program votes on any training text",
            fix="Run `vote`, or write programs that fire on these texts",
        )
    plan = _plan(solved, config, key)
    _store(warehouse, texts, covered, solved, plan, card, names, config, default)
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


# What is solved: one problem for a single task, one per label for a multi task ------------------------------------------
@dataclass(frozen=True)
class _Problem:
    """A classification problem of its own: which programs, and which label number each class stands for."""

    title: str
    programs: list[Program]
    class_of: Mapping[int, int]
    classes: int
    balance: list[float] | None
    label: int | None


@dataclass(frozen=True)
class _Solved:
    """A problem with its votes (one row per pattern, `pattern` maps texts to rows) and fitted models."""

    problem: _Problem
    votes: VoteSet
    pattern: np.ndarray
    models: Mapping[str, LabelModel]
    refused: Mapping[str, str]
    choices: Mapping[str, choosing.Choice]
    warnings: tuple[str, ...]
    prior: np.ndarray


@dataclass(frozen=True)
class _Row:
    """One row of `label_models`: the model of each problem (by index), and whom it is for."""

    name: str
    models: list[str]
    systems: list[str]
    reason: str
    config: Mapping[str, Any]
    key: str


def _problems(
    card: TaskCard, names: list[str], programs: list[Program], shares: Mapping[str, float] | None
) -> Iterator[_Problem]:
    number = {name: at for at, name in enumerate(names)}
    if card.kind == "single":
        class_of = {number[name]: at for at, name in enumerate(card.label_names)}
        balance = None if shares is None else [shares[name] for name in card.label_names]
        yield _Problem("the task", programs, class_of, len(class_of), balance, None)
        return
    for name in card.label_names:
        mine = [program for program in programs if program.target == number[name]]
        balance = None if shares is None or name not in shares else [1 - shares[name], shares[name]]
        yield _Problem(f"label {name!r}", mine, {0: 0, 1: 1}, 2, balance, number[name])


def _solve(
    warehouse: Warehouse,
    texts: Texts,
    problem: _Problem,
    model: str,
    settings: Mapping[str, Any],
    dev: Mapping[int, set[int]] | None,
) -> _Solved:
    everything = read_votes(warehouse, texts, problem.programs, classes=problem.classes, class_of=problem.class_of)
    votes, pattern = everything.patterns()
    train = votes.weighted(np.bincount(pattern[texts.train], minlength=len(votes)).astype(np.float64))
    wanted = choosing.CANDIDATES if model == "auto" else tuple(dict.fromkeys((*ALWAYS, model)))
    models, refused = choosing.fit_all(
        train, wanted, classes=problem.classes, balance=problem.balance, options=settings
    )
    if model not in ("auto", "majority") and model not in models and problem.label is None:
        raise InputError(refused[model], fix="Use `model: auto` or `majority`")
    choices = {}
    if model == "auto":
        choices["student"] = choosing.choose(models, train)
        if dev is not None:
            choices["student_dev"] = choosing.choose(models, train, dev=_dev_votes(texts, problem, votes, pattern, dev))
    else:
        name = model if model in models else "majority"
        reason = "asked for" if name == model else f"{model} cannot be fitted here ({refused[model]})"
        choices = {"student": choosing.Choice(name, reason, {})}
        if dev is not None:
            choices["student_dev"] = choices["student"]
    warnings = []
    prior = np.full(problem.classes, 1 / problem.classes) if problem.balance is None else np.asarray(problem.balance)
    if problem.balance is not None:
        warnings = _balance_warnings(train, prior / prior.sum(), problem)
    return _Solved(problem, votes, pattern, models, refused, choices, tuple(warnings), prior / prior.sum())


def _balance_warnings(train: VoteSet, prior: np.ndarray, problem: _Problem) -> list[str]:
    """A given class balance that the votes contradict by a factor of five or more."""
    counts = train.class_votes()[train.covered]
    weights = np.ones(len(train)) if train.counts is None else train.counts
    if not len(counts):
        return []
    share = (counts / counts.sum(axis=1, keepdims=True) * weights[train.covered, None]).sum(axis=0)
    share /= share.sum()
    far = [
        at for at in range(len(prior)) if max(share[at], 1e-9) / prior[at] > 5 or prior[at] / max(share[at], 1e-9) > 5
    ]
    return [
        f"{problem.title}: the balance given for class {at} is {prior[at]:.3f}, and the votes say {share[at]:.3f}"
        for at in far
    ]


def _plan(solved: list[_Solved], config: Mapping[str, Any], key: str) -> list[_Row]:
    """The rows of `label_models`: majority, snorkel, and whatever else is chosen."""
    wanted: dict[tuple[str, ...], tuple[str, list[str], str]] = {}
    for name in ALWAYS:
        if any(name in part.models for part in solved):
            picked = tuple(name if name in part.models else "majority" for part in solved)
            wanted.setdefault(picked, (name, [], "always stored, to compare with"))
    for system in ("student", "student_dev"):
        if system not in solved[0].choices:
            continue
        picked = tuple(part.choices[system].name for part in solved)
        reasons = dict.fromkeys(part.choices[system].reason for part in solved)
        name = picked[0] if len(set(picked)) == 1 else "mixed"
        label, systems, _ = wanted.get(picked, (name, [], ""))
        wanted[picked] = (label, [*systems, system], "; ".join(reasons))
    rows = []
    for picked, (name, systems, reason) in wanted.items():
        detail = {**config, "systems": systems, "models": list(picked)}
        rows.append(_Row(name, list(picked), systems, reason, detail, key))
    return rows


def _store(
    warehouse: Warehouse,
    texts: Texts,
    covered: np.ndarray,
    solved: list[_Solved],
    plan: list[_Row],
    card: TaskCard,
    names: list[str],
    config: Mapping[str, Any],
    default: int | None,
) -> None:
    import pyarrow as pa

    from factory.warehouse import insert, next_no

    with warehouse.lease() as db:
        db.execute("DELETE FROM soft_labels")  # those of earlier votes; what a model learned from stays in model_rows
        db.execute("UPDATE label_models SET chosen = false WHERE chosen")
        first = next_no(db, "label_models", "label_model_no")
        for number, row in enumerate(plan, start=first):
            tables = [_table(part, name, config, default) for part, name in zip(solved, row.models, strict=True)]
            params = {
                part.problem.title: {
                    **part.models[name].params(),
                    "scores": dict(row_choice.scores) if (row_choice := _choice(part, row)) else {},
                    "refused": dict(part.refused),
                }
                for part, name in zip(solved, row.models, strict=True)
            }
            db.execute(
                "INSERT INTO label_models (label_model_no, key, name, config, params, chosen, reason)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                [number, row.key, row.name, json.dumps(row.config), json.dumps(params), bool(row.systems), row.reason],
            )
            for start in range(0, len(texts.numbers), WRITE_ROWS):
                part_of = slice(start, start + WRITE_ROWS)
                probs, known, tie = _rows(solved, tables, part_of, card, names)
                width = probs.shape[1]
                flat = pa.array(probs.ravel(), pa.float32(), mask=None if known is None else ~known.ravel())
                insert(
                    db,
                    "soft_labels",
                    pa.table(
                        {
                            "label_model_no": np.full(len(probs), number, np.int32),
                            "text_no": texts.numbers[part_of].astype(np.int32),
                            "probs": pa.FixedSizeListArray.from_arrays(flat, width).cast(pa.list_(pa.float32())),
                            "covered": covered[part_of],
                            "tie": tie,
                        }
                    ),
                )


def _choice(part: _Solved, row: _Row) -> choosing.Choice | None:
    return part.choices.get(row.systems[-1]) if row.systems else None


def _table(
    part: _Solved, name: str, config: Mapping[str, Any], default: int | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Probabilities [patterns, classes], ties [patterns] and coverage [patterns] of one problem, by one model."""
    covered = part.votes.covered
    probs = part.models[name].predict_proba(part.votes)
    if part.problem.label is None:
        fallback = None if default is None else part.problem.class_of[default]
    else:
        fallback = 0  # multi: silence means that the label does not apply
    probs = fill_uncovered(probs, covered, config["uncovered"], prior=part.prior, default=fallback)
    _, ties = decide(probs, np.zeros(len(probs), np.uint64))
    return probs, ties & covered, covered


def _rows(
    solved: list[_Solved],
    tables: list[tuple[np.ndarray, np.ndarray, np.ndarray]],
    part_of: slice,
    card: TaskCard,
    names: list[str],
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
    """`probs` [rows, label numbers], which entries are known (None: all), and ties, for a range of texts."""
    if card.kind == "single":
        probs, ties, _ = tables[0]
        pattern = solved[0].pattern[part_of]
        wide = np.zeros((len(pattern), len(names)), np.float32)
        numbers = sorted(solved[0].problem.class_of, key=lambda number: solved[0].problem.class_of[number])
        wide[:, numbers] = probs[pattern]
        return wide, None, ties[pattern]
    rows = len(solved[0].pattern[part_of])
    wide, known = np.zeros((rows, len(names)), np.float32), np.zeros((rows, len(names)), bool)
    tie = np.zeros(rows, bool)
    for part, (probs, ties, covered) in zip(solved, tables, strict=True):
        pattern, label = part.pattern[part_of], part.problem.label
        wide[:, label] = probs[pattern, 1]
        known[:, label] = covered[pattern] if part.problem.programs else False
        tie |= ties[pattern]
    return wide, known, tie


# Parameters and dev gold ---------------------------------------------------------------------------------------------------
def _default(card: TaskCard, names: list[str], given: str | None, uncovered: str) -> int | None:
    name = given or card.default_label
    if name is None or uncovered != "default":
        if uncovered == "default" and card.kind == "single":
            raise InputError(
                "`uncovered: default` needs a default label",
                fix="Set `default_label` in the task card or in the denoise step",
            )
        return None
    if name not in card.label_names:
        raise InputError(
            f"default_label {name!r} is not one of the labels", fix=f"Use one of {', '.join(card.label_names)}"
        )
    return names.index(name)


def _balance(
    card: TaskCard, names: list[str], balance: list[float] | dict[str, float] | None
) -> dict[str, float] | None:
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


def _dev_digest(warehouse: Warehouse) -> str:
    return str(
        warehouse.query(
            "SELECT count(*), coalesce(sum(hash(g.text_no, g.label_no)::HUGEINT), 0)::VARCHAR"
            " FROM gold g JOIN sources USING (source_no) WHERE split = 'dev'"
        )
    )


def _read_dev(warehouse: Warehouse) -> dict[int, set[int]]:
    """Gold label numbers of dev texts by text_no (-1 taken out: an empty set is a multi text without labels)."""
    gold: dict[int, set[int]] = {}
    for text_no, label in warehouse.query(
        "SELECT DISTINCT g.text_no, g.label_no FROM gold g JOIN sources USING (source_no) WHERE split = 'dev' ORDER BY ALL"
    ):
        gold.setdefault(text_no, set()).update({label} - {-1})
    return gold


def _dev_votes(
    texts: Texts, problem: _Problem, votes: VoteSet, pattern: np.ndarray, dev: Mapping[int, set[int]]
) -> tuple[VoteSet, np.ndarray] | None:
    """Votes and classes of the dev texts for one problem; texts with contradicting gold are left out."""
    rows, labels = [], []
    for text_no, gold in dev.items():
        if problem.label is not None:
            label: int | None = int(problem.label in gold)
        else:
            label = problem.class_of.get(next(iter(gold))) if len(gold) == 1 else None
        if label is not None:
            rows.append(int(texts.rows(np.array([text_no]))[0]))
            labels.append(label)
    if not rows:
        return None
    return VoteSet(votes.codes, votes.indptr, votes.lfs, votes.classes).take(pattern[rows]), np.array(labels)
