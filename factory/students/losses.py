"""Losses that forgive wrong labels, in torch: soft cross-entropy, generalized cross-entropy, early-learning regularisation.

Every function works on a batch and returns a loss for each of its rows, so that weights and means stay the caller's.
"""

from __future__ import annotations

from typing import Any

EPSILON = 1e-4
"""Probabilities are kept this far from 0 and 1 where a logarithm or a power is taken of them."""


def smoothed(targets: Any, known: Any, share: float, multi: bool) -> Any:
    """Label smoothing: a share of each target spread evenly over what it could be.

    Args:
        targets: [b, k] probabilities, 0 where unknown.
        known: [b, k] of 0 and 1.
        share: In [0, 1).
        multi: Whether each label is a question of its own.
    """
    if share <= 0:
        return targets
    return (targets * (1 - share) + share / (2 if multi else targets.shape[1])) * known


def label_loss(logits: Any, targets: Any, known: Any, *, multi: bool, gce: float = 0.0) -> Any:
    """Soft cross-entropy, or generalized cross-entropy of soft labels (Zhang and Sabuncu 2018, eq. 6).

    Args:
        logits: [b, k].
        targets: [b, k] probabilities.
        known: [b, k] of 0 and 1; unknown entries of a multi task are left out.
        multi: Whether each label is a question of its own.
        gce: q in (0, 1]; 0 is plain cross-entropy. Large q mistrusts labels that the model finds unlikely.

    Returns:
        [b], summed over labels.
    """
    import torch

    if multi:
        if gce <= 0:
            losses = torch.nn.functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
        else:
            p = torch.sigmoid(logits).clamp(EPSILON, 1 - EPSILON)
            losses = (targets * (1 - p**gce) + (1 - targets) * (1 - (1 - p) ** gce)) / gce
        return (losses * known).sum(1)
    log_p = torch.log_softmax(logits, dim=1)
    if gce <= 0:
        return -(targets * log_p).sum(1)
    return (targets * (1 - torch.exp(gce * log_p)) / gce).sum(1)


class EarlyLearning:
    """Early-learning regularisation (Liu et al. 2020, eq. 6 and 8): holds the model to what it believed before it fitted noise.

    Keeps a running mean of the model's answer to each training row, and rewards agreeing with it: log(1 - <p, t>).
    """

    def __init__(self, n: int, k: int, *, strength: float, memory: float, multi: bool, device: Any) -> None:
        """For n rows and k labels.

        Args:
            n: Training rows.
            k: Labels.
            strength: lambda, at least 0.
            memory: beta of the running mean, in [0, 1).
            multi: Whether each label is a question of its own.
            device: Of the logits.
        """
        import torch

        self.strength, self.memory, self.multi = strength, memory, multi
        self.mean = torch.full((n, k), 0.5 if multi else 1.0 / k, device=device)

    def __call__(self, rows: Any, logits: Any, known: Any) -> Any:
        """The penalty of a batch, [b]; takes its answers into the running mean.

        Args:
            rows: Numbers of the training rows, [b].
            logits: [b, k].
            known: [b, k] of 0 and 1.
        """
        import torch

        p = torch.sigmoid(logits) if self.multi else torch.softmax(logits, dim=1)
        p = p.clamp(EPSILON, 1 - EPSILON)
        if not self.multi:
            p = p / p.sum(1, keepdim=True)
        mean = self.memory * self.mean[rows] + (1 - self.memory) * p.detach()
        self.mean[rows] = mean
        if self.multi:
            agreement = p * mean + (1 - p) * (1 - mean)
            return self.strength * (torch.log1p(-agreement.clamp(max=1 - EPSILON)) * known).sum(1)
        return self.strength * torch.log1p(-(p * mean).sum(1).clamp(max=1 - EPSILON))


def consistency_loss(before: Any, after: Any, *, multi: bool, confidence: float, sharpness: float) -> Any:
    """How far the answer to a changed text is from the answer to the text itself (UDA; Xie et al. 2020, sections 2 and 3.3).

    Args:
        before: [b, k], logits of the texts; no gradient flows into them.
        after: [b, k], logits of the same texts changed.
        multi: Whether each label is a question of its own.
        confidence: Texts whose answer is less sure than this do not count.
        sharpness: Temperature that divides `before`, in (0, 1].

    Returns:
        [b]; cross-entropy, 0 where the text does not count.
    """
    import torch

    fixed = before.detach()
    if multi:
        p = torch.sigmoid(fixed)
        sure = (torch.maximum(p, 1 - p) >= confidence).to(after.dtype)
        wanted = torch.sigmoid(fixed / sharpness)
        losses = torch.nn.functional.binary_cross_entropy_with_logits(after, wanted, reduction="none")
        return (losses * sure).sum(1)
    sure = (torch.softmax(fixed, dim=1).amax(1) >= confidence).to(after.dtype)
    wanted = torch.softmax(fixed / sharpness, dim=1)
    return -(wanted * torch.log_softmax(after, dim=1)).sum(1) * sure
