"""A stage is declared once: the checks, the help, the signature and the docstring come from its parameters."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Literal

import pytest
from pydantic import Field

from factory.errors import InputError
from factory.params import Call, Params, default_words, stage, type_words
from factory.pipeline.schema import pipeline_schema
from factory.pipeline.steps import STEPS, make_step, stage_of
from factory.result import StageResult
from factory.warehouse.file import Warehouse


class CountParams(Params):
    times: int = Field(3, ge=1, description="How often. Three is enough.")
    form: Literal["short", "long"] = Field("short", description="Of the answer.")


@stage("count", CountParams, asks=True)
def count(warehouse: Warehouse, params: CountParams, call: Call) -> StageResult:
    """Count to a number.

    Raises:
        InputError: Never.
    """
    call.progress(params.times, params.times, "counted")
    return StageResult("count", did={"times": params.times, "engine": call.engine, "budget": call.budget})


def test_a_stage_is_called_like_a_function() -> None:
    seen: list[int] = []
    result = count(None, "engine", times=5, budget="2", progress=lambda done, total, what: seen.append(done))
    assert result.did == {"times": 5, "engine": "engine", "budget": "2"}
    assert seen == [5]
    assert count(None, engine="other").did == {"times": 3, "engine": "other", "budget": None}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"tims": 2}, "unknown key `tims` in `count`; did you mean `times`"),
        ({"times": 0}, r"`count\.times` is 1 or more \(given: 0\)"),
        ({"times": "many"}, r"`count\.times` is a whole number \(given: 'many'\)"),
        ({"times": float("nan")}, r"`count\.times` is a (whole|finite) number"),
        ({"form": "shrot"}, r"`count\.form` is one of `short`, `long` \(given: 'shrot'\); did you mean `short`"),
    ],
)
def test_a_call_is_checked_as_a_pipeline_is(given: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        count(None, "engine", **given)


def test_arguments_that_do_not_fit_are_told_with_the_signature() -> None:
    with pytest.raises(TypeError, match=r"count\(\) needs `engine`: count\(warehouse, /, engine, \*, times: int = 3"):
        count(None)
    with pytest.raises(TypeError, match=r"count\(\) takes \(warehouse"):
        count(None, "engine", 3)


def test_signature_and_docstring_name_every_parameter() -> None:
    assert list(inspect.signature(count).parameters) == ["warehouse", "engine", "times", "form", "budget", "progress"]
    doc = inspect.getdoc(count) or ""
    assert doc.index("Count to a number.") < doc.index("Args:") < doc.index("Raises:")
    assert "    times: How often. Three is enough." in doc


@pytest.mark.parametrize("verb", STEPS)
def test_every_step_defends_its_defaults_and_is_checked(verb: str) -> None:
    found = stage_of(verb)
    assert found.name == verb
    for name, info in found.params.model_fields.items():
        assert info.description, f"{verb}.{name} is not described"
        assert info.description.endswith((".", ")")), f"{verb}.{name}"
        assert type_words(info.annotation)
        assert not info.is_required(), f"{verb}.{name} has no default: `- {verb}: {{}}` should run"
        assert default_words(info) is not None
        assert f"    {name}: " in (found.__doc__ or ""), f"{verb}.{name} is not in the docstring"
    with pytest.raises(InputError, match=f"unknown key `nonsense` in `{verb}`"):
        make_step(verb, {"nonsense": 1})


def test_the_schema_describes_every_parameter() -> None:
    listed = pipeline_schema()["properties"]["steps"]["anyOf"][0]["items"]["anyOf"][1:]
    assert len(listed) == len(STEPS)
    for step in listed:
        ((verb, value),) = step["properties"].items()
        for name, facts in value["anyOf"][0]["properties"].items():
            assert facts["description"], f"{verb}.{name}"


@pytest.mark.parametrize("verb", [verb for verb in STEPS if verb not in ("export", "export_data", "report")])
def test_the_help_of_a_verb_lists_every_parameter(verb: str, told: Callable[..., tuple[int, str, str]]) -> None:
    code, out, _ = told(verb, "--help")
    assert code == 0
    for name, info in stage_of(verb).params.model_fields.items():
        assert f"{name}={default_words(info)}"[:20] in out, name


def test_a_verb_offers_its_own_options_alone(told: Callable[..., tuple[int, str, str]]) -> None:
    assert "--per-label" in told("synthesize", "--help")[1]
    assert "--per-label" not in told("vote", "--help")[1]
    assert "--engine" not in told("vote", "--help")[1]


def test_a_package_called_like_a_verb_is_that_verb() -> None:
    import factory.denoise.models  # binds `factory.denoise` to the package

    assert list(inspect.signature(factory.denoise).parameters)[:2] == ["warehouse", "model"]
    with pytest.raises(InputError, match="there is no label model `magic`"):
        factory.denoise(Warehouse.memory(), model="magic")
