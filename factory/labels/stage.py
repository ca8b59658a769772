"""`denoise`: from the votes of accepted programs to a probability per label for every text; `audit`, `ask`, `read_answers`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from factory.canonical import digest
from factory.errors import InputError
from factory.labels import auto as choosing
from factory.labels.decide import UNCOVERED, decide, fill_uncovered
from factory.labels.inspecting import ask, audit, read_answers
from factory.labels.models import MODELS
from factory.labels.problems import ALWAYS, Solved, features_of, problems_of, solve
from factory.labels.reading import Texts, accepted_programs, read_texts, votes_digest
from factory.result import Progress, StageResult, no_progress
from factory.task import TaskCard, current_card, label_names

if TYPE_CHECKING:
    from factory.warehouse import Warehouse

__all__ = ["ask", "audit", "denoise", "read_answers"]

WRITE_ROWS = 500_000


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
        model: A key of `factory.labels.models.MODELS`, or `auto`.
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
    default = _default(card, names, default_label, uncovered)
    shares = _balance(card, names, balance)
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


# Storing -----------------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class _Row:
    """One row of `label_models`: the model of each problem (by index), and whom it is for."""

    name: str
    models: list[str]
    systems: list[str]
    reason: str
    config: Mapping[str, Any]
    key: str


def _plan(solved: list[Solved], config: Mapping[str, Any], key: str) -> list[_Row]:
    """The rows of `label_models`: majority, snorkel, and whatever else is chosen."""
    wanted: dict[tuple[str, ...], tuple[str, list[str], str]] = {}
    for name in ALWAYS:
        if any(name in part.models for part in solved):
            picked = tuple(name if name in part.models else "majority" for part in solved)
            wanted.setdefault(picked, (name, [], "always stored, to compare with"))
    for system in ("student", "student_dev"):
        if system not in solved[0].choices:
            continue
        picked = tuple(part.choices[system][0] for part in solved)
        reasons = dict.fromkeys(part.choices[system][1].reason for part in solved)
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
    solved: list[Solved],
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
                part.problem.title: _params(part, name, row) for part, name in zip(solved, row.models, strict=True)
            }
            db.execute(
                "INSERT INTO label_models (label_model_no, key, name, config, params, chosen, reason)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                [number, row.key, row.name, json.dumps(row.config), json.dumps(params), bool(row.systems), row.reason],
            )
            for start in range(0, len(texts.numbers), WRITE_ROWS):
                part_of = slice(start, start + WRITE_ROWS)
                probs, known, tie = _rows(solved, tables, part_of, card, names, config["uncovered"])
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


def _params(part: Solved, name: str, row: _Row) -> dict[str, Any]:
    """What a model learned, what it was compared with, and on dev its reliability."""
    found = {**part.models[name].params(), "refused": dict(part.refused)}
    if row.systems:
        found["scores"] = dict(part.choices[row.systems[-1]][1].scores)
    if part.reliability and "student_dev" in row.systems:
        found["reliability"] = dict(part.reliability)
    return found


@dataclass(frozen=True)
class _Table:
    """Probabilities [rows, classes], ties and coverage [rows] of one problem by one model, and the row of every text."""

    probs: np.ndarray
    ties: np.ndarray
    covered: np.ndarray
    row: np.ndarray


def _table(part: Solved, name: str, config: Mapping[str, Any], default: int | None) -> _Table:
    model, votes, row = part.models[name], part.votes, part.pattern
    if model.name == "joint" and part.features is not None:  # depends on the text: one row per text
        votes, row = part.everything, np.arange(len(part.everything))
        probs = choosing.predict(model, votes, **part.features.of(row))
    else:
        probs = model.predict_proba(votes)
    if part.problem.label is None:
        fallback = None if default is None else part.problem.class_of[default]
    else:
        fallback = 0  # multi: silence means that the label does not apply
    covered = votes.covered
    probs = fill_uncovered(probs, covered, config["uncovered"], prior=part.prior, default=fallback)
    _, ties = decide(probs, np.zeros(len(probs), np.uint64))
    return _Table(probs, ties & covered, covered, row)


def _rows(
    solved: list[Solved], tables: list[_Table], part_of: slice, card: TaskCard, names: list[str], uncovered: str
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
    """`probs` [rows, label numbers], which entries are known (None: all), and ties, for a range of texts."""
    if card.kind == "single":
        pattern = tables[0].row[part_of]
        wide = np.zeros((len(pattern), len(names)), np.float32)
        numbers = sorted(solved[0].problem.class_of, key=lambda number: solved[0].problem.class_of[number])
        wide[:, numbers] = tables[0].probs[pattern]
        return wide, None, tables[0].ties[pattern]
    rows = len(solved[0].pattern[part_of])
    wide, known = np.zeros((rows, len(names)), np.float32), np.zeros((rows, len(names)), bool)
    tie = np.zeros(rows, bool)
    silent_known = uncovered in ("prior", "default")
    for part, table in zip(solved, tables, strict=True):
        pattern, label = table.row[part_of], part.problem.label
        wide[:, label] = table.probs[pattern, 1]
        known[:, label] = (table.covered[pattern] | silent_known) if part.problem.programs else False
        tie |= table.ties[pattern]
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
