"""Labels near one another: groups of labels that are easily confused."""

from __future__ import annotations

from collections.abc import Sequence


def confusable(near: Sequence[Sequence[int]], size: int) -> list[list[int]]:
    """Share labels out among groups of at most `size`, so that labels near one another fall into one group.

    Pairs are joined in the order of their nearness (the rank of each among the neighbours of the other, added up), as long as the
    group stays within the size.

    Args:
        near: For each label the others, the nearest first, as `LabelIndex.near_labels` gives them.
        size: The most labels in a group.

    Returns:
        Positions of labels, ascending in each group, groups by their first.

    Example:
        >>> confusable([[1, 2], [0, 3], [3, 0], [2, 1]], 2)
        [[0, 1], [2, 3]]
    """
    ranks = [{other: rank for rank, other in enumerate(others)} for others in near]
    far = max((len(others) for others in near), default=0)
    pairs = sorted(
        (rank + ranks[other].get(at, far), min(at, other), max(at, other))
        for at, others in enumerate(ranks)
        for other, rank in others.items()
    )
    group = {at: [at] for at in range(len(near))}
    for _, one, other in pairs:
        mine, theirs = group[one], group[other]
        if mine is not theirs and len(mine) + len(theirs) <= size:
            mine += theirs
            group |= dict.fromkeys(theirs, mine)
    return sorted(sorted(members) for members in {id(members): members for members in group.values()}.values())
