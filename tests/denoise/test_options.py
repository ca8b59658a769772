"""Options of label models: every one that is not the model's is refused in a line, before anything is fitted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from factory.denoise.models.table import MODELS, fit_label_model, option_names
from factory.denoise.stage import denoise
from factory.encoders.hashing import HashingEncoder
from factory.errors import InputError
from tests.denoise.test_stage import make
from tests.denoise.topics import warehouse

VOTES = np.array([[0, 0, 1], [1, 1, -1], [0, -1, 0], [1, 1, 1]] * 10)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("option", ["classes", "balance", "votes", "people", "features", "belief", "strenght"])
def test_what_is_no_option_of_a_model_is_refused_with_those_that_are(name: str, option: str) -> None:
    with pytest.raises(InputError, match=f"label model `{name}` has no option `{option}`") as refused:
        denoise(make(VOTES, ["a", "b"]), model=name, encoder=None, options={option: 3})
    assert all(known in str(refused.value) for known in option_names(name))


def test_options_without_a_named_model_are_refused() -> None:
    with pytest.raises(InputError, match="`options` \\(strength\\) are of one label model, and `model` is auto"):
        denoise(make(VOTES, ["a", "b"]), encoder=None, options={"strength": 2.0})


def test_an_option_reaches_its_model_and_is_part_of_the_key() -> None:
    warehouse = make(VOTES, ["a", "b"])
    assert not denoise(warehouse, model="dawid_skene_missing", encoder=None, options={"max_iter": 1}).skipped
    ((told,),) = warehouse.query("SELECT params::VARCHAR FROM label_models WHERE chosen")
    assert '"rounds":1' in told.replace(" ", "")
    assert not denoise(warehouse, model="dawid_skene_missing", encoder=None, options={"max_iter": 2}).skipped


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("dawid_skene", {"estimate_balance": "no"}, "`estimate_balance` is true or false"),
        ("dawid_skene", {"strength": "much"}, "strength"),
        ("dawid_skene_prior", {"accuracy": 1.0}, "accuracy"),
        ("dawid_skene_prior", {"max_iter": 0}, "max_iter"),
        ("dawid_skene_prior", {"strength": float("nan")}, "strength"),
        ("snorkel", {"n_epochs": 0}, "n_epochs"),
    ],
)
def test_values_that_cannot_be_are_refused(name: str, options: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        fit_label_model(name, VOTES, classes=2, **options)


@pytest.mark.parametrize("name", [name for name in MODELS if name != "joint"])
def test_rows_of_several_lengths_are_no_votes(name: str) -> None:
    with pytest.raises(InputError, match="rows of one length"):
        fit_label_model(name, [[0, 1, 1], [0, 1]], classes=2)


def test_vectors_that_are_not_finite_are_refused() -> None:
    features = np.eye(4)[np.arange(len(VOTES)) % 4]
    features[7, 1] = np.nan
    with pytest.raises(InputError, match="not finite"):
        fit_label_model("joint", VOTES, classes=2, features=features, keys=np.arange(len(VOTES), dtype=np.uint64))


def test_another_encoder_behind_auto_is_another_fit_of_the_joint_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABEL_FACTORY_ENCODER", "hashing")
    made, _ = warehouse()
    assert not denoise(made, model="joint").skipped
    assert denoise(made, model="joint").skipped
    other = HashingEncoder("another model by the same name")
    other.key = "f" * 64
    monkeypatch.setattr("factory.encoders.encoder.load_encoder", lambda name, warehouse: other)
    assert not denoise(made, model="joint").skipped
    assert made.scalar("SELECT count(*) FROM vectors WHERE encoder_key = ?", [other.key]) > 0
    assert denoise(made, model="joint").skipped
