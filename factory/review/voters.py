"""What voters said of some texts, in words, for questions and as evidence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from factory.warehouse.tables.votes import votes_on

if TYPE_CHECKING:
    import numpy as np

    from factory.denoise.problems import Voter
    from factory.warehouse.file import Warehouse


def answers_before(
    warehouse: Warehouse, names: Sequence[str], text_nos: Sequence[int] | np.ndarray, voters: Sequence[Voter]
) -> dict[int, list[str]]:
    """What people answered about each of these texts, by text number: `spam`, of one label of a `multi` task `not spam`."""
    people = {voter.number: voter.target for voter in voters if voter.person}
    found: dict[int, list[str]] = {}
    for text_no, program_no, vote in votes_on(warehouse, text_nos, list(people)):
        target = people[program_no]
        said = names[vote] if target is None else (names[target] if vote else f"not {names[target]}")
        found.setdefault(text_no, []).append(said)
    return found


def votes_by_name(
    warehouse: Warehouse, names: Sequence[str], text_nos: Sequence[int], voters: Sequence[Voter]
) -> dict[int, dict[str, str]]:
    """What each voter says of each text, by text number and the voter's name: `spam`, of one label `spam: yes`."""
    by_number = {voter.number: voter for voter in voters}
    found: dict[int, dict[str, str]] = {}
    for text_no, program_no, vote in votes_on(warehouse, text_nos, list(by_number)):
        voter = by_number[program_no]
        said = names[vote] if voter.target is None else f"{names[voter.target]}: {'yes' if vote else 'no'}"
        told = found.setdefault(text_no, {})
        told[voter.name] = f"{told[voter.name]}; {said}" if voter.name in told else said
    return found
