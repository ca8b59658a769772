"""What only some people need is told in one line where it is missing, before anything is asked or paid for."""

from __future__ import annotations

import ast
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from factory.errors import InputError
from factory.extras import EXTRAS, is_there, need

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CARD = "{name: toy, text: a line, labels: [{name: ham, description: fine}, {name: spam, description: not fine}]}"
ASKS = {
    "peft": ("tune: {}", "`tune` needs peft"),
    "setfit": ("distill: {student: setfit}", "the student `setfit` needs setfit"),
    "ray": ("vote: {ray: true}", "`vote: {ray: true}` needs ray"),
}


def test_every_extra_is_one_of_the_project_and_no_plain_dependency() -> None:
    for package, extra in EXTRAS.items():
        assert any(line.startswith(package) for line in PROJECT["optional-dependencies"][extra])
        assert not any(line.startswith(package) for line in PROJECT["dependencies"])


@pytest.mark.parametrize("package", ASKS)
def test_a_missing_extra_is_told_before_a_run_begins(
    tmp_path: Path, told: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    step, words = ASKS[package]
    monkeypatch.setitem(sys.modules, package, None)
    (tmp_path / "train.csv").write_text("text\none\ntwo\n")
    pipeline = tmp_path / "toy.yaml"
    pipeline.write_text(f"name: toy\ntask: {CARD}\nsteps:\n  - ingest: {{train: train.csv}}\n  - {step}\n")
    code, out, err = told("run", str(pipeline), "--folder", str(tmp_path / "run"))
    assert (code, out) == (2, "")
    assert err == f'factory: {words}, which is not installed. Run: pip install "label-factory[{EXTRAS[package]}]"\n'


def test_a_package_that_is_there_is_not_imported_to_see_it() -> None:
    assert is_there("json")
    assert not is_there("no_such_package")
    with pytest.raises(InputError, match="needs vllm"):
        need("vllm", "engine `vllm`") if not is_there("vllm") else need_nothing()


def need_nothing() -> None:
    raise InputError("needs vllm, and it is there")


def test_every_dependency_is_imported_by_the_package() -> None:
    """A dependency that nothing imports is one too many."""
    names = {"pyyaml": "yaml", "scikit-learn": "sklearn", "google-re2": "re2"}
    behind = {"onnxscript"}  # torch exports by it
    found = set()
    for path in (ROOT / "factory").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module.split(".")[0])
    for line in PROJECT["dependencies"]:
        package = line.split(";")[0].split(">")[0].split("=")[0].split("<")[0].split("[")[0].strip()
        module = names.get(package, package.replace("-", "_"))
        assert package in behind or module in found, f"{package} is imported nowhere"
