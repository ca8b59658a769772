"""From probabilities to one label: ties, and texts that nothing voted for."""

from __future__ import annotations

import hashlib
from typing import Any, Literal

import numpy as np

from factory.errors import InputError

Uncovered = Literal["drop", "prior", "default", "ask"]
TIE = 1e-5


def decide(
    probs: np.ndarray, keys: Any, *, tie_break: Literal["content", "row"] = "content"
) -> tuple[np.ndarray, np.ndarray]:
    """The most probable class of each row; a tie is broken by the text's content hash, so the order of rows never matters.

    Args:
        probs: Float [n, k].
        keys: uint64 [n] from `tie_keys`, one number per text; not read with `tie_break="row"`.
        tie_break: `row` breaks ties by a hash of the row index, as Snorkel and WRENCH do: only for checking published figures.

    Returns:
        Labels int64 [n], and whether the row was a tie, bool [n].
    """
    if not len(probs):
        return np.zeros(0, np.int64), np.zeros(0, bool)
    best = probs.max(axis=1, keepdims=True)
    tied = np.abs(probs - best) < TIE
    ties = tied.sum(axis=1)
    labels = tied.argmax(axis=1).astype(np.int64)
    rows = np.flatnonzero(ties > 1)
    if len(rows):
        if tie_break == "row":
            drawn = np.array([int(hashlib.sha1(str(row).encode()).hexdigest(), 16) % int(ties[row]) for row in rows])
        else:
            drawn = (np.asarray(keys, np.uint64)[rows] % ties[rows].astype(np.uint64)).astype(np.int64)
        rank = np.cumsum(tied[rows], axis=1) - 1
        labels[rows] = (tied[rows] & (rank == drawn[:, None])).argmax(axis=1)
    return labels, ties > 1


def tie_keys(content_hashes: Any) -> np.ndarray:
    """uint64 [n] from the texts' content hashes (16 bytes each): their last eight bytes.

    Raises:
        InputError: A hash of less than eight bytes.
    """
    ends = [bytes(value)[-8:] for value in content_hashes]
    if any(len(end) < 8 for end in ends):
        raise InputError("a content hash has eight bytes or more")
    return np.frombuffer(b"".join(ends), ">u8").astype(np.uint64)


def fill_uncovered(
    probs: np.ndarray, covered: np.ndarray, rule: Uncovered, *, prior: np.ndarray, default: int | None
) -> np.ndarray:
    """What texts without any vote get, float32 [n, k].

    `prior` and `default` give them the class shares, or the default label; `drop` and `ask` leave the class shares there
    for reports, and nothing learns from those rows. A model that reads meaning into silence (Dawid-Skene with abstention as an
    answer) is overruled: the rule is stated before any score.

    Args:
        probs: float32 [n, k], the model's.
        covered: bool [n].
        rule: What is to be done.
        prior: float64 [k].
        default: Label number of the default label; needed by the rule `default` alone.
    """
    out = probs.astype(np.float32, copy=True)
    out[~covered] = np.eye(out.shape[1], dtype=np.float32)[default] if rule == "default" else prior
    return out
