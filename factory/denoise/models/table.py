"""The table of label models, and the one way to fit any of them."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from factory.denoise.models import dawid_skene, joint, majority, prior, triplets, weighted
from factory.denoise.models import snorkel as snorkel_model
from factory.denoise.models.base import LabelModel
from factory.errors import InputError, nearest
from factory.label_matrix import as_votes

MODELS: dict[str, Callable[..., LabelModel]] = {
    "majority": majority.fit, "snorkel": snorkel_model.fit, "dawid_skene": partial(dawid_skene.fit, abstain="answer"),
    "dawid_skene_missing": partial(dawid_skene.fit, abstain="missing"), "dawid_skene_prior": prior.fit,
    "weighted": weighted.fit, "triplets": triplets.fit, "joint": joint.fit,
}  # fmt: skip

GIVEN = frozenset({"votes", "classes", "balance", "features", "keys", "people"})
"""Arguments of label models that the stage gives; all others are a user's options."""


def option_names(name: str) -> list[str]:
    """What `options` of a label model may be, in order."""
    fit = MODELS[name]
    function, bound = (fit.func, fit.keywords) if isinstance(fit, partial) else (fit, {})
    return [option for option in inspect.signature(function).parameters if option not in GIVEN and option not in bound]


def check_options(name: str, options: Mapping[str, Any]) -> None:
    """Refuse options that a label model does not have, and options of `auto`, which fits several.

    Raises:
        InputError: With those that it has.
    """
    if not options:
        return
    if name == "auto":
        words = f"`options` ({', '.join(options)}) are of one label model, and `model` is auto"
        raise InputError(words, fix=f"Name the model: {', '.join(MODELS)}")
    known = option_names(name)
    for option in options:
        if option not in known:
            fix = f"Use {', '.join(known)}" if known else f"{name} has no options"
            raise InputError(f"label model `{name}` has no option `{option}`{nearest(option, known)}", fix=fix)


def fit_label_model(name: str, votes: Any, *, classes: int, balance: Any = None, **options: Any) -> LabelModel:
    """Fit one label model.

    Args:
        name: A key of `MODELS`.
        votes: A `factory.label_matrix.VoteSet`, or a dense label matrix [n, m] of integers, -1 abstain.
        classes: Number of classes (k), 2 or more.
        balance: Class balance [k], or None.
        options: The model's own parameters.

    Raises:
        InputError: There is no such model, it cannot use these votes or parameters, or there are no texts or functions.

    Example:
        >>> import numpy as np
        >>> model = fit_label_model("majority", np.array([[0, 0, 1], [1, 1, -1]]), classes=2)
        >>> model.predict_proba(np.array([[1, -1, 1]])).tolist()
        [[0.0, 1.0]]
    """
    if name not in MODELS:
        near = difflib.get_close_matches(name, MODELS, n=1)
        fix = f"Did you mean `{near[0]}`?" if near else f"Known are {', '.join(MODELS)}"
        raise InputError(f"there is no label model `{name}`", fix=fix)
    data = as_votes(votes, classes)
    if not len(data) or not data.lfs:
        missing = "texts" if data.lfs else "labelling functions"
        raise InputError(f"there are no {missing} to fit a label model on")
    try:
        return MODELS[name](data, classes=classes, balance=balance, **options)
    except TypeError as error:
        if "unexpected keyword" in str(error):
            raise InputError(f"label model `{name}`: {str(error).split('()', 1)[-1].strip()}") from error
        raise
