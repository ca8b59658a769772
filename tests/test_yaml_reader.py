"""YAML from outside: bounded whatever its aliases say, and one line for what cannot be read."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from factory.errors import InputError
from factory.task import load_card
from factory.yaml_reader import parse_yaml, read_yaml

LAUGHS = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 9)
)
MERGES = "a0: &a0 {k: 1, l: 2, m: 3}\n" + "".join(
    f"a{n}: &a{n} {{<<: [{','.join([f'*a{n - 1}'] * 10)}]}}\n" for n in range(1, 9)
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (LAUGHS, r"aliases repeat more than"),
        (MERGES, r"aliases repeat more than"),
        ("a: &a [*a]\n", "y:1: an alias stands for the list or mapping that it is in"),
        ("a: &a {b: {c: *a}}\n", "an alias stands for"),
        ("a: " + "[" * 3000 + "]" * 3000, "nested too deeply"),
        ("".join(" " * n + "a:\n" for n in range(2000)), "nested too deeply"),
        ("? [a, b]\n: c\n", "y:1: a key is a list"),
        ("a: 2024-13-45\n", "not YAML.*quotes"),
        ("a: " + "9" * 5000, "not YAML"),
        ("a: 1\nb: 2\na: 3\n", "y:3: `a` stands twice, the first time in line 1"),
        ("a: !!python/object/apply:os.system ['true']\n", "y:1: this is not YAML"),
    ],
)
def test_a_hostile_document_is_one_line_in_no_time(text: str, words: str) -> None:
    started = time.process_time()
    with pytest.raises(InputError, match=words) as error:
        parse_yaml(text, "y")
    assert time.process_time() - started < 5
    assert "\n" not in str(error.value)


def test_a_few_aliases_and_merges_are_read() -> None:
    value, places = parse_yaml("base: &b {x: 1}\none: {<<: *b, y: 2}\ntwo: *b\n", "y")
    assert value == {"base": {"x": 1}, "one": {"x": 1, "y": 2}, "two": {"x": 1}}
    assert places["one", "y"] == 2


def test_a_device_and_a_file_that_is_too_large_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a regular file"):
        read_yaml(Path("/dev/zero"))
    (tmp_path / "big.yaml").write_text("#" * ((1 << 24) + 1))
    with pytest.raises(InputError, match="larger than 16 MiB"):
        read_yaml(tmp_path / "big.yaml")


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ("{yes: x, no: y}", r':3: `labels.0.name` is read by YAML as true.*put it in quotes, as in "yes"'),
        ("[{name: on, description: x}, {name: b, description: y}]", 'as in "on"'),
        ("[{name: 1.0, description: x}, {name: b, description: y}]", 'the number 1.0, not as text.*as in "1.0"'),
        ("{null: x, b: y}", 'as in "null"'),
        ("{2024-01-01: x, b: y}", 'as a date.*as in "2024-01-01"'),
        ("{a: no, b: y}", r'labels.0.description` is read by YAML as false.*as in "no"'),
    ],
)
def test_a_word_that_yaml_reads_otherwise_is_to_be_quoted(tmp_path: Path, labels: str, words: str) -> None:
    (tmp_path / "task.yaml").write_text(f"name: t\ntext: x\nlabels: {labels}\n")
    with pytest.raises(InputError, match=words):
        load_card(tmp_path / "task.yaml")
