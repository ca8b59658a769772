"""Nothing of the data, of file names or of answers commands the terminal that shows it."""

from __future__ import annotations

import json
import os
import pty
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from factory.commands import progress
from factory.commands.shared import give
from factory.commands.terminal import say, shown, table, tell
from factory.result import StageResult

CLEAR, TITLE, TURNED, C1 = "\x1b[2J", "\x1b]0;owned\x07", "\u202egpj.exe", "\x9b31m"
HOSTILE = f"a{CLEAR}b{TITLE}c{TURNED}d{C1}e\rf\bg"
COMMANDS = {"\x1b", "\x07", "\x9b", "\u202e", "\r", "\b"}

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="a pseudo terminal")


def test_a_text_is_shown_with_its_commands_spelled_out() -> None:
    assert shown(HOSTILE) == r"a\x1b[2Jb\x1b]0;owned\x07c\u202egpj.exed\x9b31me\rf\x08g"
    assert shown("two\nlines\tand é, 日本, 👩‍👩‍👧") == "two\nlines\tand é, 日本, 👩‍👩‍👧"


def test_tables_lines_and_json_hold_no_command(capsys: pytest.CaptureFixture[str]) -> None:
    table(["text", HOSTILE], [[HOSTILE, "[red]not markup[/red]"], [None, 0.5]], title=f"[bold]{HOSTILE}")
    tell(HOSTILE)
    say(HOSTILE)
    give({"text": HOSTILE}, True, lambda: None)
    out, err = capsys.readouterr()
    assert not COMMANDS & {*out, *err}
    assert "[red]not markup[/red]" in out
    assert "0.500" in out
    assert json.loads(out.splitlines()[-1]) == {"text": HOSTILE}, "what a program reads is what was there"


def test_the_bars_of_a_terminal_and_what_a_step_says_hold_no_command_of_the_data(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from factory.params import Params
    from factory.pipeline.steps import Step

    main, side = pty.openpty()
    with os.fdopen(side, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        monkeypatch.setenv("TERM", "xterm")
        step = Step("author", Params())
        with progress.shown_progress() as (start, told):
            start(step, 0, 1)(1, 2, f"[red]{TITLE}{TURNED}")
            told(step, StageResult("author", False, {}, (f"said {CLEAR}{TITLE}{TURNED}",)))
    drawn = b""
    while True:
        try:
            drawn += os.read(main, 1 << 16)
        except OSError:
            break
        if not drawn:
            break
    os.close(main)
    assert b"\x1b]0;" not in drawn
    assert b"\x1b[2J" not in drawn
    assert "\u202e".encode() not in drawn
    assert rb"said \x1b[2J\x1b]0;owned\x07" in drawn


def run(*arguments: str | Path, folder: Path) -> subprocess.CompletedProcess[bytes]:
    """The command line in a process of its own, in a folder."""
    return subprocess.run(
        [sys.executable, "-m", "factory", *map(str, arguments)],
        cwd=folder,
        capture_output=True,
        check=False,
        timeout=300,
    )


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A folder with a run whose texts, own columns, file names and contradicting gold would all command a terminal."""
    name = f"t{CLEAR}.csv"
    rows = "".join(f'"{number} {HOSTILE}",{label},"{TITLE}"\n' for number in (1, 1, 2, 3) for label in "ab")
    (tmp_path / name).write_text(f"text,label,id\n{rows}", newline="")
    source = json.dumps({"path": name, "text": "text", "label": "label"})
    (tmp_path / "p.yaml").write_text(
        "name: p\ntask: {name: t, text: x, labels: {a: x, b: y}}\n"
        f"steps:\n  - ingest: {{train: {source}, dev: {source}, test: {source}}}\n"
    )
    (tmp_path / "run").mkdir(mode=0o755)
    (tmp_path / "run").chmod(0o755)
    assert run("run", "p.yaml", "--folder", "run", folder=tmp_path).returncode == 0
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["run", "p.yaml", "--folder", "new"], 0),
        (["lineage", "run", "text", "1"], 0),
        (["predict", f"no{CLEAR}", f"such{TITLE}"], 2),
        (["run", f"p{CLEAR}.yaml"], 2),
        (["run", "p.yaml", "--set", f"x{TITLE}=1"], 2),
        ([f"verb{CLEAR}"], 2),
        (["run", "p.yaml", "--json", "--set", f"x{C1}=1"], 2),
    ],
    ids=lambda value: value[0][:7].encode("unicode_escape").decode() if isinstance(value, list) else None,
)
def test_what_a_command_prints_holds_no_command_of_the_data(made: Path, arguments: list[str], code: int) -> None:
    done = run(*arguments, folder=made)
    out, err = done.stdout.decode(), done.stderr.decode()
    assert done.returncode == code, err
    assert out or err
    assert not COMMANDS & {*out, *err}


def test_a_run_is_private_even_in_a_folder_that_others_may_look_into(made: Path) -> None:
    assert run("report", "run", folder=made).returncode == 0
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in (made / "run").rglob("*")}
    assert modes
    assert {mode for path, mode in modes.items() if path.is_file() and path.suffix not in (".html", ".md")} == {0o600}
    assert {mode for path, mode in modes.items() if path.is_dir()} <= {0o700}
