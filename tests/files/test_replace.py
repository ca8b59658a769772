"""What is written stands whole or not at all, replaces nothing of a person's own, and is private where a run writes it."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from factory.errors import ExportError, InputError
from factory.files.manifest import NAME, checked, read_manifest, verify, write_manifest
from factory.files.replace import head_names, refuse_to_replace, replaced, replaced_folder, take_place


def test_a_file_is_replaced_when_it_is_whole_and_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("keep")
    (tmp_path / "a").symlink_to(tmp_path / "victim")
    with replaced(tmp_path / "a") as draft:
        draft.write_text("new")
    assert (tmp_path / "a").read_text() == "new"
    assert (tmp_path / "victim").read_text() == "keep"
    with (
        pytest.raises(UnicodeEncodeError),
        replaced(tmp_path / "a") as draft,
        draft.open("w", encoding="ascii") as file,
    ):
        file.writelines(["half", "é"])
    assert (tmp_path / "a").read_text() == "new"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "victim"]


def test_what_a_kill_left_is_written_over_and_never_through(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("keep")
    (tmp_path / ".a.draft").symlink_to(tmp_path / "victim")
    with replaced(tmp_path / "a") as draft:
        draft.write_text("new")
    assert (tmp_path / "victim").read_text() == "keep"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "victim"]


def test_a_folder_is_replaced_when_it_is_whole_and_comes_back_after_a_kill_between_two_moves(tmp_path: Path) -> None:
    for word in ("old", "new"):
        with replaced_folder(tmp_path / "f") as draft:
            (draft / word).write_text(word)
    assert [path.name for path in (tmp_path / "f").iterdir()] == ["new"]
    with pytest.raises(RuntimeError), replaced_folder(tmp_path / "f"):
        raise RuntimeError
    assert [path.name for path in (tmp_path / "f").iterdir()] == ["new"]
    (tmp_path / "f").rename(tmp_path / ".f.old")
    with pytest.raises(OSError):
        take_place(tmp_path / "nothing there", tmp_path / "f")
    assert [path.name for path in tmp_path.iterdir()] == ["f"]
    assert [path.name for path in (tmp_path / "f").iterdir()] == ["new"]


def test_what_is_private_is_its_owners_alone(tmp_path: Path) -> None:
    with replaced(tmp_path / "a", private=True) as draft:
        draft.write_text("x")
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o600


def test_a_run_makes_its_folder_and_files_private(tmp_path: Path) -> None:
    from factory.pipeline.load import load_pipeline
    from factory.pipeline.run import run_pipeline

    (tmp_path / "t.csv").write_text("text,label\na text,a\n")
    (tmp_path / "p.yaml").write_text(
        "name: p\ntask: {name: t, text: x, labels: {a: x, b: y}}\n"
        "steps:\n  - ingest: {train: t.csv, test: {path: t.csv, label: label}}\n"
    )
    run_pipeline(load_pipeline(tmp_path / "p.yaml"), folder=tmp_path / "run")
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "run").iterdir()}
    assert stat.S_IMODE((tmp_path / "run").stat().st_mode) == 0o700
    assert {"p.duckdb", "p.gold.duckdb", "p.files.json"} <= set(modes)
    assert set(modes.values()) == {0o600}


def test_only_an_earlier_output_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"

    def refuse(**options: object) -> None:
        refuse_to_replace(path, lambda names: "label" in names, "output", **options)  # type: ignore[arg-type]

    refuse()
    path.write_text("")
    refuse()
    path.write_text("text,label\n")
    refuse()
    path.write_text("my,thesis\n")
    with pytest.raises(InputError, match=r"is there already.*take it away first"):
        refuse()
    with pytest.raises(InputError, match="--force"):
        refuse(force=False)
    refuse(force=True)
    os.link(path, tmp_path / "b.csv")
    with pytest.raises(InputError, match="this is the file that is read"):
        refuse(force=True, inputs=[tmp_path / "b.csv"])


@pytest.mark.parametrize(
    ("name", "content", "names"),
    [("a.csv", '"a b",c\n1,2\n', ["a b", "c"]), ("a.jsonl", '{"a": 1}\n{"b": 2}\n', ["a"]), ("a.json", '[\n {"a": 1}]', ["a"]),
     ("a.jsonl", json.dumps({"custom_id": 1, "body": "x" * 300_000}) + "\n", ["custom_id", "body"]), ("a.json", "[[1]]", []),
     ("a.parquet", "PAR1 not", []), ("a.csv", "\x00\xff", ["\x00\xff"])],
)  # fmt: skip
def test_the_names_that_a_file_begins_with_are_found(tmp_path: Path, name: str, content: str, names: list[str]) -> None:
    (tmp_path / name).write_text(content)
    assert head_names(tmp_path / name) == names


# Exports ----------------------------------------------------------------------------------------------------------------
def exported(folder: Path) -> Path:
    folder.mkdir()
    (folder / "inference.json").write_text("{}")
    write_manifest(folder, {"kind": "linear"})
    return folder


def test_a_file_of_an_export_is_read_as_far_as_its_manifest_says(tmp_path: Path) -> None:
    folder = exported(tmp_path / "e")
    manifest = read_manifest(folder)
    assert checked(folder, manifest, "inference.json") == b"{}"
    (folder / "inference.json").write_text("{} ")
    with pytest.raises(ExportError, match="altered or truncated"):
        checked(folder, manifest, "inference.json")


@pytest.mark.parametrize("name", ["inference.json", NAME])
@pytest.mark.parametrize("kind", ["link out", "device", "pipe", "folder"])
def test_what_is_not_a_file_of_the_export_is_one_clear_line_at_once(tmp_path: Path, name: str, kind: str) -> None:
    folder = exported(tmp_path / "e")
    manifest = read_manifest(folder)
    content = (folder / name).read_bytes()
    (folder / name).unlink()
    if kind == "link out":
        (tmp_path / "outside").write_bytes(content)
        (folder / name).symlink_to(tmp_path / "outside")
    elif kind == "device":
        (folder / name).symlink_to("/dev/zero")
    elif kind == "pipe":
        os.mkfifo(folder / name)
    else:
        (folder / name).mkdir()
    look = read_manifest if name == NAME else lambda folder: checked(folder, manifest, name)
    with pytest.raises(ExportError, match=r"link that leads out|pipe or a device|lacks|cannot be read"):
        look(folder)
    with pytest.raises(ExportError):
        verify(folder)


def test_a_link_inside_an_export_is_followed(tmp_path: Path) -> None:
    folder = exported(tmp_path / "e")
    (folder / "inference.json").rename(folder / "blob")
    (folder / "inference.json").symlink_to("blob")
    write_manifest(folder, {"kind": "linear"})
    assert verify(folder) == 2
