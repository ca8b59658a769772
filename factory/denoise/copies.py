"""Labelling functions that copy each other: found by shared errors, and merged into one voice.

Two good functions agree because both are right; two copies agree where both are wrong as well. So functions are candidates when
they give the same vote on most texts that either votes on, far beyond chance (on a skewed task two functions that mostly
say "no" agree on most texts by chance alone), and are copies when, on texts where one contradicts the functions outside the
group, the other contradicts them in the same way. That tells something only if those outside agree with each other beyond
chance; if they do not, only exact copies are taken for such. A group then votes once: as its first member that votes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from factory.label_matrix import VoteSet

SAME = 0.75
KAPPA = 0.85
COINCIDE = 0.8
LEAST_ERRORS = 10.0
LEAST_TEXTS = 20.0
CREDIBLE = 0.2
"""Least mean agreement beyond chance (0 chance, 1 always) of the functions outside a group."""


def find_copies(votes: VoteSet) -> list[list[int]]:
    """Groups of two or more functions that copy each other, each in ascending order.

    A candidate pair agrees on at least 75% of the texts that either votes on (20 texts or more), and Cohen's kappa of their
    votes where both vote is at least 0.85 (functions that vote for one class only have none, and are judged by the first rule
    alone); a group is confirmed when its members coincide on 80% of the texts where they contradict the majority outside
    the group, ten texts or more; or when they never differ at all.
    """
    if votes.lfs < 3:
        return []
    data, _ = votes.patterns()
    moments = data.moments()
    agree, both = moments.agree(), moments.both()
    own = np.diag(both)
    union = own[:, None] + own[None, :] - both
    kappa = _kappa(moments.agree_by_chance(), agree, both)
    close = (agree >= SAME * union) & (union >= LEAST_TEXTS) & (kappa >= KAPPA)
    exact = close & (agree == union)
    np.fill_diagonal(close, False)
    np.fill_diagonal(exact, False)
    groups = []
    for group in _components(close):
        outside = np.setdiff1d(np.arange(data.lfs), group)
        pairs = np.triu(np.ones((len(outside), len(outside)), bool), 1)
        met = float(both[np.ix_(outside, outside)][pairs].sum())
        believed = met >= LEAST_TEXTS and float((both * kappa)[np.ix_(outside, outside)][pairs].sum()) >= CREDIBLE * met
        if believed and _coincide(data, group):
            groups.append(group)
        else:
            inside = np.zeros_like(exact)
            inside[np.ix_(group, group)] = exact[np.ix_(group, group)]
            groups.extend(_components(inside))
    return sorted(groups)


def merge_copies(votes: VoteSet, groups: Sequence[Sequence[int]]) -> VoteSet:
    """The same rows with each group as one function, in the place of its first member; other functions move up."""
    if not groups:
        return votes
    rank, leader = np.zeros(votes.lfs, np.int64), np.arange(votes.lfs)
    for group in groups:
        for position, member in enumerate(group):
            rank[member], leader[member] = position, group[0]
    number = np.cumsum(leader == np.arange(votes.lfs)) - 1
    owner = number[leader]
    row, lf, label = votes.triplets()
    order = np.lexsort((rank[lf], owner[lf], row))
    row, lf, label = row[order], lf[order], label[order]
    first = np.ones(len(row), bool)
    first[1:] = (row[1:] != row[:-1]) | (owner[lf[1:]] != owner[lf[:-1]])
    shape = len(votes), int(number[-1]) + 1
    merged = VoteSet.from_triplets(row[first], owner[lf[first]], label[first], shape=shape, classes=votes.classes)
    return replace(merged, counts=votes.counts)


def _kappa(by_chance: np.ndarray, agree: np.ndarray, both: np.ndarray) -> np.ndarray:
    """Cohen's kappa [m, m] of each pair on the texts where both vote; where chance alone explains all, 1 if they never differ."""
    met = np.maximum(both, 1)
    chance = by_chance / met**2
    room = 1 - chance
    values = np.divide(agree / met - chance, room, out=np.zeros_like(chance), where=room > 1e-9)
    result: np.ndarray = np.where((room <= 1e-9) & (both > 0), (agree == both).astype(float), values)
    return result


def _components(close: np.ndarray) -> list[list[int]]:
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import connected_components

    count, label = connected_components(csr_matrix(close), directed=False)
    groups = [np.flatnonzero(label == number).tolist() for number in range(count)]
    return [group for group in groups if len(group) > 1]


def _coincide(data: VoteSet, group: list[int]) -> bool:
    """Whether the members share their contradictions of everybody else (or there is nobody else to contradict)."""
    others = [lf for lf in range(data.lfs) if lf not in set(group)]
    outside = data.keep_lfs(others).class_votes()
    best = outside.max(axis=1)
    clear = (outside == best[:, None]).sum(axis=1) == 1
    consensus = outside.argmax(axis=1)
    inside = data.keep_lfs(group).matrix()
    apart = shared = 0.0
    for one in range(len(group)):
        wrong = clear & (inside[:, one] >= 0) & (inside[:, one] != consensus)
        for other in range(len(group)):
            if other != one:
                both = wrong & (inside[:, other] >= 0)
                apart += float(data.times[both].sum())
                shared += float(data.times[both & (inside[:, other] == inside[:, one])].sum())
    pairs = len(group) * (len(group) - 1)
    return apart >= LEAST_ERRORS * pairs and shared >= COINCIDE * apart
