"""REFERENCE.md has everything that the code has, and nothing else: it is written from the code, and written anew here."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from factory.cli import app
from factory.denoise.models.table import MODELS
from factory.llm.settings import EngineSettings
from factory.pipeline.load import TOP_KEYS
from factory.pipeline.steps import STEPS, stage_of
from factory.reference import commands_of
from factory.students.base import STUDENTS, student_class
from factory.warehouse.file import Warehouse
from tests.kills.harness import environment

PAGE = Path(__file__).resolve().parent.parent / "factory" / "REFERENCE.md"
COMMANDS = dict(commands_of(typer.main.get_command(app)))


@pytest.fixture(scope="module")
def page() -> str:
    return PAGE.read_text(encoding="utf-8")


def test_the_page_is_what_the_code_writes(page: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "factory.reference"],
        capture_output=True,
        text=True,
        env=environment(),
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == page, "write it anew: python -m factory.reference > factory/REFERENCE.md"


def section(page: str, heading: str) -> str:
    """From a heading to the next of its level or above."""
    level = heading.split(" ")[0]
    _, _, rest = page.partition(f"\n{heading}\n")
    assert rest, f"there is no {heading!r}"
    lines = []
    for line in rest.splitlines():
        if line.startswith("#") and len(line.split(" ")[0]) <= len(level):
            break
        lines.append(line)
    return "\n".join(lines)


@pytest.mark.parametrize("verb", STEPS)
def test_every_parameter_of_every_step_stands_there(page: str, verb: str) -> None:
    told = section(page, f"### `{verb}`")
    assert {f"| `{name}` |" for name in stage_of(verb).params.model_fields} == {
        " ".join(line.split(" ")[:3]) for line in told.splitlines() if line.startswith("| `")
    }


@pytest.mark.parametrize("path", COMMANDS)
def test_every_command_and_option_stands_there(page: str, path: str) -> None:
    assert f"`{path}" in page
    for option in COMMANDS[path].params:
        for name in (*option.opts, *option.secondary_opts) if option.param_type_name == "option" else ():
            assert name in page, f"{path} {name}"


def test_every_setting_of_engines_and_every_key_of_a_pipeline_stands_there(page: str) -> None:
    engines, pipeline = section(page, "## Engines"), section(page, "## A pipeline file")
    for name in EngineSettings.model_fields:
        row = next(line for line in engines.splitlines() if line.startswith(f"| `{name}` |"))
        assert row.split("|")[3].strip(), f"{name} is not described"
    assert all(f"| `{key}` |" in pipeline for key in TOP_KEYS)


def test_every_label_model_and_student_stands_there_with_its_options(page: str) -> None:
    assert all(f"| `{name}` |" in section(page, "## Label models") for name in MODELS)
    for kind in STUDENTS:
        told = section(page, f"### `{kind}`")
        for field in dataclasses.fields(student_class(kind).Config):
            row = next(line for line in told.splitlines() if line.startswith(f"| `{field.name}` |"))
            assert row.split("|")[3].strip(), f"{kind}.{field.name} is not described"


def test_every_view_stands_there_with_its_columns(page: str) -> None:
    told = section(page, "## The warehouse")
    warehouse = Warehouse.memory()
    views = [name for (name,) in warehouse.query("SELECT view_name FROM duckdb_views() WHERE NOT internal")]
    views += [name for (name,) in warehouse.query("SELECT function_name FROM duckdb_functions() WHERE NOT internal")]
    assert {"lineage", "ancestors"} <= set(views)
    for view in views:
        row = next(line for line in told.splitlines() if line.startswith((f"| `{view}`", f"| `{view}(")))
        assert row.split("|")[2].strip(), f"{view} is not described"
