"""The members of a mixture as files: the glass box (`factory.predict.glass_box` tells the format and reads it)."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from factory.denoise.models.base import LogLinear
from factory.errors import InputError
from factory.files.exchange import take_place
from factory.predict.glass_box import ARRAYS, FACTS, LOGISTIC, TABLES, Program
from factory.programs.rules import read_rules
from factory.students.base import write_json

if TYPE_CHECKING:
    from factory.distill.mixture.mix import Mixed
    from factory.programs.blocks import AcceptedProgram

MOST_ABOUT = 120
"""Characters of what an author wrote about a program."""
_ABOUT = re.compile(r"def label\([^\n]*:[ \t]*\n[ \t]+[rR]?(?:\"{3}|'{3}|\"|')[ \t]*\n?[ \t]*([^\n\"']+)")
_COMMENT = re.compile(r"^[ \t]*#[ \t]*([^\s!#][^\n]*)", re.MULTILINE)


@dataclass(frozen=True)
class Answered:
    """A question and the mixture that answers it.

    Attributes:
        label: The label that yes and no are about (`multi`), else None.
        classes: Names of the k classes.
        voters: The numbers of the programs that vote in it, in column order, those that cannot be run among them.
        mixed: What `mix` gave.
    """

    label: str | None
    classes: Sequence[str]
    voters: Sequence[int]
    mixed: Mixed


def keep(
    folder: Path, parts: Sequence[Answered], programs: Sequence[AcceptedProgram], facts: Mapping[str, Any]
) -> None:
    """Write a glass box beside its place, then move it there: a kill leaves the old folder or the new one.

    A voter that cannot be run on new texts (the model's own votes) abstains on all of them.

    Args:
        folder: Where to.
        parts: The questions.
        programs: Those that can be run.
        facts: `labels`, `names` (all label names by number), `multi`, and what is worth keeping beside them.

    Raises:
        InputError: The disk does not take it.
    """
    from safetensors.numpy import save_file

    place = {program.number: at for at, program in enumerate(programs)}
    draft = folder.with_name(folder.name + ".draft")
    shutil.rmtree(draft, ignore_errors=True)
    try:
        (draft / "programs").mkdir(parents=True)
        told = [_program(program, number, facts["names"], draft) for number, program in enumerate(programs, 1)]
        arrays: dict[str, np.ndarray] = {}
        rows = []
        for number, part in enumerate(parts):
            columns = [at for at, voter in enumerate(part.voters) if voter in place]
            members = part.mixed.members[-1]
            for name, found in _tables(part, columns).items():
                arrays |= {f"{number}/{name}/{of}": np.ascontiguousarray(array) for of, array in found.items()}
            for name in members:
                if name not in (*TABLES, LOGISTIC):
                    (draft / f"{number}_{name}").mkdir()
                    members[name].learned.save(draft / f"{number}_{name}")  # type: ignore[attr-defined]
            rows.append({
                "label": part.label, "classes": list(part.classes), "programs": [place[part.voters[at]] for at in columns],
                "weights": dict(part.mixed.weights), "temperature": part.mixed.temperature,
                "thin": list(getattr(members[LOGISTIC], "thin", ())),
            })  # fmt: skip
        save_file(arrays, str(draft / ARRAYS))
        write_json(draft / FACTS, {**facts, "programs": [asdict(program) for program in told], "parts": rows})
        take_place(draft, folder)
    except OSError as error:
        raise InputError(f"the glass box cannot be written: {error.strerror}", where=folder) from error


def _tables(part: Answered, columns: Sequence[int]) -> dict[str, dict[str, np.ndarray]]:
    """What votes of the columns add to the log-odds, [m k, k], by member; a retired program adds nothing in a label model."""
    mixed, k, m = part.mixed, len(part.classes), len(part.voters)
    members: Mapping[str, Any] = mixed.members[-1]
    kept = [at for at in range(m) if at not in mixed.retired] or list(range(m))
    found: dict[str, dict[str, np.ndarray]] = {}
    for name in TABLES:
        whole = np.zeros((m, k, k))
        whole[kept] = members[name].learned.weights.reshape(-1, k, k)
        found[name] = {"weights": whole[list(columns)].reshape(-1, k), "bias": members[name].learned.bias}
    head = members[LOGISTIC].learned
    if isinstance(head, LogLinear):  # no class had anchors enough
        return found | {LOGISTIC: found[TABLES[0]]}
    width = head.weight.shape[1] - m * k
    by_vote = head.weight[:, width:].T.reshape(m, k, k)[list(columns)].reshape(-1, k)
    found[LOGISTIC] = {"weights": by_vote.astype(np.float64), "bias": head.bias.astype(np.float64)}
    return found | {LOGISTIC: {**found[LOGISTIC], "pull": head.weight[:, :width].astype(np.float32)}}


def _program(program: AcceptedProgram, number: int, names: Sequence[str], folder: Path) -> Program:
    """Write a program's source, and say what it is."""
    slug = re.sub("[^a-z0-9]+", "_", program.name.lower())[:40].strip("_") or "program"
    rules = program.kind == "rules"
    file = f"programs/{number:03d}_{slug}.{'json' if rules else 'py'}"
    source = read_rules(program.source, names, program.target).lines if rules else program.source
    (folder / file).write_bytes(source.encode("utf-8"))
    says = "" if rules else about(program.source)
    return Program(program.number, program.name, program.kind, file, program.target, says)


def about(source: str) -> str:
    """What the author of a Python program wrote about it, in one line: its docstring or first comment; it is read as text alone.

    Example:
        >>> about("# words of money\\ndef label(text):\\n    return None")
        'words of money'
    """
    match = _ABOUT.search(source) or _COMMENT.search(source)
    words = "" if match is None else "".join(c for c in " ".join(match[1].split()) if c.isprintable())
    return words if len(words) <= MOST_ABOUT else f"{words[: MOST_ABOUT - 3]}..."
