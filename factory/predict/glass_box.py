"""The glass box: programs and the fitted members of a mixture, which answer together and can say why.

Its files lie beside a warehouse, where `distill` puts them, and in an export, with the encoder beside them:

    glass_box.json                  labels, programs, and each part with its members' weights and its temperature
    glass_box.safetensors           PART/MEMBER/weights and /bias of members that are tables of votes or a logistic regression
    PART_MEMBER/                    a student, as it saves itself
    programs/                       a file each: rules as JSON, Python as source

A part is one question: the task itself, or in a `multi` task yes or no for one label.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from factory.denoise.calibrate import temper
from factory.errors import InputError
from factory.logistic import probabilities
from factory.predict.predictors import LinearPredictor, read_safetensors
from factory.programs.blocks import AcceptedProgram, run_accepted

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from factory.programs.sandbox.host.pool import Sandbox
    from factory.programs.sandbox.host.result import ProgramRun

    Floats = NDArray[np.float64]

GLASS_BOX = "glass_box"
"""The kind of such an export, and the name of the system."""
FACTS, ARRAYS = "glass_box.json", "glass_box.safetensors"
TABLES, LOGISTIC = ("anchored", "anchors_only"), "logistic"
"""Members that add up log-odds of votes, and the one that adds those of votes and of the text's vector."""


@dataclass(frozen=True)
class Program:
    """A program in a glass box.

    Attributes:
        number: In the warehouse that it comes from.
        name: For people.
        kind: `python` or `rules`.
        file: Of its source, in the box.
        target: In a `multi` task the one label it speaks of.
        says: What its author wrote about it, in one line; empty where there is none, and for rules.
    """

    number: int
    name: str
    kind: str
    file: str
    target: str | None
    says: str


@dataclass(frozen=True)
class Part:
    """One question: which of k classes, asked of m programs and of the text.

    Attributes:
        label: The label that yes and no are about (`multi`), else None.
        classes: k names: labels, or `no` and `yes`.
        columns: The programs that vote in it, as places in the box's list.
        weights: Of each member, adding up to 1.
        temperature: That the mixture's probabilities are scaled by.
        votes: Of each member that reads votes, float64 [m, k + 1, k]: what program j's vote v adds to the log-odds of each class
            at [j, v]; the last, where votes of -1 point, is 0.
        bias: Of the same members, float64 [k].
        pull: float64 [k, d], of the logistic regression: what the text's vector adds.
        students: Of each student what answers texts and vectors, float [n, k].
        thin: Classes of which the logistic regression learned nothing: it says what `anchored` says of them.
    """

    label: str | None
    classes: Sequence[str]
    columns: Sequence[int]
    weights: Mapping[str, float]
    temperature: float
    votes: Mapping[str, Floats]
    bias: Mapping[str, Floats]
    pull: Floats
    students: Mapping[str, Student]
    thin: Sequence[int] = ()

    def members(
        self, votes: NDArray[Any], texts: Sequence[str], vectors: NDArray[Any]
    ) -> dict[str, NDArray[np.float32]]:
        """What each member says, float32 [n, k].

        Args:
            votes: int [n, m], classes, -1 abstains.
            texts: n of them.
            vectors: float [n, d].
        """
        found = {}
        for name, table in self.votes.items():
            logits = np.tile(self.bias[name], (len(votes), 1))
            for column, added in enumerate(table):
                logits += added[votes[:, column]]
            by_text = name == LOGISTIC and self.pull.size > 0
            found[name] = probabilities(logits + vectors @ self.pull.T if by_text else logits, False)
        if self.thin:
            theirs = found[TABLES[0]][:, self.thin]
            found[LOGISTIC] *= 1 - theirs.sum(axis=1, keepdims=True)
            found[LOGISTIC][:, self.thin] = theirs
        return found | {name: student(texts, vectors) for name, student in self.students.items()}

    def added(self, column: int, vote: int) -> Floats:
        """What a program's vote adds to the log-odds of each class, [k]: the weighted mean of the members that read votes."""
        whole = sum(self.weights[name] for name in self.votes) or 1.0
        return np.asarray(sum(self.weights[name] / whole * table[column, vote] for name, table in self.votes.items()))

    def answer(self, said: Mapping[str, NDArray[np.float32]]) -> NDArray[np.float32]:
        """The mixture of what members say, float32 [n, k]."""
        mixed = sum(self.weights[name] * given.astype(np.float64) for name, given in said.items())
        return temper(np.asarray(mixed), self.temperature)


class Student:
    """A member that is a student: a head over vectors, or weights of words.

    Attributes:
        words: The one that has words, else None.
    """

    def __init__(self, read: Callable[[str], bytes]) -> None:
        facts = json.loads(read("student.json"))
        self.words: LinearPredictor | None = None
        if facts["kind"] == "linear":
            config = {name: facts["config"][name] for name in ("words", "characters")}
            self.words = LinearPredictor(read, {**config, "multi": False})
        else:
            self._head = read_safetensors(read("head.safetensors"))

    def __call__(self, texts: Sequence[str], vectors: NDArray[Any]) -> NDArray[np.float32]:
        if self.words is not None:
            return self.words(texts)[0]
        return probabilities(vectors @ self._head["weight"].T + self._head["bias"], False)


class GlassBox:
    """A glass box that was read.

    Attributes:
        facts: What `glass_box.json` holds.
        labels: Label names in the order of the answer.
        multi: Whether a text may have any number of them.
        programs: The programs that vote.
        parts: The questions.
    """

    def __init__(self, read: Callable[[str], bytes]) -> None:
        """Read one.

        Args:
            read: File name to content.
        """
        self.facts: dict[str, Any] = json.loads(read(FACTS))
        self.labels: list[str] = list(self.facts["labels"])
        self.multi = bool(self.facts["multi"])
        self.programs = [Program(**program) for program in self.facts["programs"]]
        self.parts = [_part(number, told, read) for number, told in enumerate(self.facts["parts"])]
        self._read = read

    @classmethod
    def at(cls, folder: Path) -> GlassBox:
        """The glass box in a folder of `distill`.

        Raises:
            InputError: Files of it are gone.
        """
        try:
            return cls(lambda name: (folder / name).read_bytes())
        except OSError as error:
            raise InputError("the glass box's files are gone", where=folder, fix="Run `distill` again") from error

    @cached_property
    def sources(self) -> list[AcceptedProgram]:
        """The programs with their sources, as they are run."""
        return [
            AcceptedProgram(each.number, self._read(each.file).decode("utf-8"), each.target, each.kind, each.name)
            for each in self.programs
        ]

    def run(self, texts: Sequence[str], sandbox: Sandbox = "kernel") -> tuple[NDArray[np.int64], ProgramRun]:
        """Have the programs vote.

        Returns:
            Votes, int64 [n, programs]: the place of a label (`multi`: 1 yes, 0 no), -1 abstains; and the run that gave them.

        Raises:
            SandboxError: A program is Python, and Python cannot run here.
        """
        from factory.programs.sandbox.host.pool import shared_pool

        names = list(self.facts["names"])  # all that programs know, in their order: one may answer by number
        run = run_accepted(shared_pool(sandbox=sandbox), self.sources, texts, names)
        votes = run.votes.astype(np.int64)
        if self.multi:
            return votes, run
        place = np.array([self.labels.index(name) if name in self.labels else -1 for name in names] + [-1])
        return np.asarray(place[votes]), run

    def answer(self, votes: NDArray[Any], texts: Sequence[str], vectors: NDArray[Any]) -> NDArray[np.float32]:
        """Probabilities of n texts, float32 [n, labels].

        Args:
            votes: As `run` gives them.
            texts: n of them.
            vectors: float [n, d], of the encoder that the members were fitted with.
        """
        probs = np.zeros((len(texts), len(self.labels)), np.float32)
        for part in self.parts:
            said = part.answer(part.members(votes[:, list(part.columns)], texts, vectors))
            if part.label is None:
                probs = said
            else:
                probs[:, self.labels.index(part.label)] = said[:, 1]
        return probs


def _part(number: int, told: Mapping[str, Any], read: Callable[[str], bytes]) -> Part:
    arrays = {name: np.asarray(of, np.float64) for name, of in read_safetensors(read(ARRAYS)).items()}
    k = len(told["classes"])
    votes, bias, pull = {}, {}, np.zeros((k, 0))
    for name in (*TABLES, LOGISTIC):
        added = arrays[f"{number}/{name}/weights"].reshape(-1, k, k)
        votes[name] = np.concatenate([added, np.zeros((len(added), 1, k))], axis=1)
        bias[name] = arrays[f"{number}/{name}/bias"]
    if f"{number}/{LOGISTIC}/pull" in arrays:
        pull = arrays[f"{number}/{LOGISTIC}/pull"]
    students = {
        name: Student(lambda file, name=name: read(f"{number}_{name}/{file}"))  # type: ignore[misc]
        for name in told["weights"]
        if name not in votes
    }
    return Part(
        told["label"], told["classes"], told["programs"], told["weights"], told["temperature"], votes, bias, pull, students,
        told["thin"],
    )  # fmt: skip
