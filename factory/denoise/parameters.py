"""What a user may give `denoise`, checked against the task card."""

from __future__ import annotations

from factory.errors import InputError
from factory.task import TaskCard


def default_number(card: TaskCard, names: list[str], given: str | None, uncovered: str) -> int | None:
    """Label number of the default label, or None where none is needed.

    Raises:
        InputError: `uncovered: default` without one, or a name that is not on the card.
    """
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


def balance_shares(
    card: TaskCard, names: list[str], balance: list[float] | dict[str, float] | None
) -> dict[str, float] | None:
    """Class shares by label name.

    Raises:
        InputError: Not one share per label (`single`), an unknown label, or a share outside 0 ... 1.
    """
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
