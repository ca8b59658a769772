"""People's answers: stored as one more voter and as anchors, put on record, and taken back again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from factory.task import TaskCard
from factory.warehouse.tables import answers as record
from factory.warehouse.tables import programs
from factory.warehouse.tables.anchors import forget_person, put_person
from factory.warehouse.tables.votes import Said, forget_single, put_single

if TYPE_CHECKING:
    import duckdb


class Answers:
    """What one person says, in a transaction.

    Args:
        db: A connection from `Warehouse.lease`.
        card: The task card.
        names: Label names by number.
        voter: Name of the program that holds the person's answers.
        annotator: The person's name, or None.
        of_audit: Numbers of the texts of the audit slice: answers to them are anchors, and no votes.
    """

    def __init__(
        self, db: duckdb.DuckDBPyConnection, card: TaskCard, names: Sequence[str], *, voter: str, annotator: str | None,
        of_audit: frozenset[int],
    ) -> None:  # fmt: skip
        self.db, self.names, self.voter, self.annotator, self.of_audit = db, names, voter, annotator, of_audit
        numbers = [names.index(name) for name in card.label_names]
        self.multi = None if card.kind == "single" else numbers
        self.targets: list[int | None] = [None] if card.kind == "single" else [*numbers]

    def give(self, answers: Mapping[int, frozenset[int]]) -> int:
        """Store answers, label numbers by text number, in place of what the person said of the same texts before.

        Returns:
            The number of the action on record.
        """
        before = record.answers_by(self.db, self.annotator, list(answers))
        self._put(answers)
        return record.put_action(self.db, self.annotator, answers, before)

    def undo(self) -> list[int]:
        """Undo the person's newest action that was not undone: what was said before holds again.

        Returns:
            The numbers of its texts; none if there is no such action.
        """
        last = record.last_action(self.db, self.annotator)
        if last is None:
            return []
        gone = [number for number, labels in last.before.items() if labels is None]
        for target in self.targets:
            voter = programs.find(self.db, kind="trusted", target_no=target, name=self.voter)
            if voter is not None and gone:
                forget_single(self.db, voter, gone)
        forget_person(self.db, gone, self.annotator)
        self._put({number: labels for number, labels in last.before.items() if labels is not None})
        record.mark_undone(self.db, last.number)
        return sorted(last.before)

    def _put(self, answers: Mapping[int, frozenset[int]]) -> None:
        numbers = sorted(set(answers) - self.of_audit)
        for target in self.targets if numbers else ():
            said = [min(answers[no]) if target is None else int(target in answers[no]) for no in numbers]
            columns = np.array(numbers, np.int32), np.array(said, np.int32)
            put_single(self.db, [Said(self._voter(target), *columns, {"ok": len(numbers)})])
        if answers:
            put_person(self.db, answers, self.annotator, self.multi)

    def _voter(self, target: int | None) -> int:
        """The number of the program that holds the person's answers; made if there is none."""
        program = programs.find(self.db, kind="trusted", target_no=target, name=self.voter)
        if program is not None:
            return program
        key = programs.program_key("trusted", None if target is None else self.names[target], self.voter)
        new = programs.NewProgram(self.voter, "trusted", "hand", "", key, target_no=target)
        return programs.add(self.db, new, actor="ask", reason="answers read")
