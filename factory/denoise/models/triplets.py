"""FlyingSquid's triplets, in closed form, for any number of classes.

Fu, Chen, Sala, Hooper, Fatahalian, Ré: Fast and three-rous: speeding up weak supervision with triplet methods. ICML 2020.
There, labels are -1 and 1 and E[l_i l_j] = a_i a_j. With k classes and errors that fall evenly on the other classes, let
q_i = (k acc_i - 1) / (k - 1); then two functions that both vote agree with probability A_ij where
(k A_ij - 1) / (k - 1) = q_i q_j, and three functions give |q_i| = sqrt(|q_ij q_il / q_jl|). The median over triplets is taken;
signs are chosen positive (functions are assumed better than chance), as in the paper.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from factory.denoise.models.base import LogLinear, check_number, checked_balance, coin_weights
from factory.errors import InputError
from factory.label_matrix import VoteSet, as_votes

CAP = 0.98
MOST_PARTNERS = 60


def fit(
    votes: VoteSet | Any, *, classes: int, balance: Any = None, least_overlap: float = 10, fallback: float = 0.7
) -> LogLinear:
    """Estimate each function's accuracy from the agreement rates of triplets that overlap.

    Args:
        votes: A `VoteSet` or a dense label matrix [n, m], -1 abstain; three functions or more.
        classes: Number of classes.
        balance: Class balance [k]; uniform if not given.
        least_overlap: Texts on which two functions must both vote for their agreement to count, above 0.
        fallback: Accuracy of a function that is in no usable triplet, between 0 and 1.

    Raises:
        InputError: Fewer than three functions, or a parameter outside its range.
    """
    check_number("least_overlap", least_overlap, above=0)
    check_number("fallback", fallback, above=0, below=1)
    data = as_votes(votes, classes)
    if data.lfs < 3:
        words = f"triplets need three labelling functions or more, and there are {data.lfs}"
        raise InputError(words, fix="Use `majority`")
    shares = checked_balance(balance, classes)
    moments = data.moments()
    both, agree = moments.both(), moments.agree()
    usable = both >= least_overlap
    np.fill_diagonal(usable, False)
    rate = np.divide(agree, both, out=np.zeros_like(agree), where=usable)
    product = (classes * rate - 1) / (classes - 1)
    accuracies = np.full(data.lfs, fallback)
    used = 0
    for one in range(data.lfs):
        partners = np.flatnonzero(usable[one])
        if len(partners) > MOST_PARTNERS:  # those it shares most texts with tell most
            partners = np.sort(partners[np.argsort(-both[one, partners], kind="stable")[:MOST_PARTNERS]])
        pairs = product[np.ix_(partners, partners)]
        fine = usable[np.ix_(partners, partners)] & (np.abs(pairs) > 0.01)
        fine &= np.triu(np.ones_like(fine), 1)
        if not fine.any():
            continue
        outer = np.abs(np.outer(product[one, partners], product[one, partners]))
        value = min(float(np.median(np.sqrt(outer[fine] / np.abs(pairs[fine])))), CAP)
        accuracies[one] = (value * (classes - 1) + 1) / classes
        used += 1
    facts = {"accuracies": np.round(accuracies, 4).tolist(), "in_triplets": used}
    return LogLinear("triplets", classes, coin_weights(accuracies, classes), np.log(shares), facts)
