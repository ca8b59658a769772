"""Label programs that a model wrote, on public sets: what was asked, what it cost, and what it is worth.

    python tests/benchmarks/programs.py --only youtube
    python tests/benchmarks/programs.py --runs factory-runs      # reads runs that are there, makes those that are not

Each case runs a ready pipeline with its recorded answers (`factory run NAME`) and prints a row: programs asked, accepted and
refused, tokens per accepted program (failures and repairs included), coverage, mean accuracy of the programs on test, majority
vote and Snorkel, the teacher, the student, human rules, dev gold only; from how many texts on programs are cheaper than a label
for each, and how much cheaper at 100,000. Published figures of ScriptoriumWS (its tables for programs that a model wrote; on
AG News with human heuristics in the prompt) stand beside majority vote. Scores are accuracy, on SMS the F1 of spam.
`programs_trec_rules` and `programs_emotion_rules` put lists of rules by the same author beside its Python functions.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from _harness import ROOT, Options, Row, Skip, case, main, row

SETS = {
    "youtube": "wrench_youtube",
    "sms": "wrench_sms",
    "trec": "wrench_trec",
    "agnews": "agnews",
    "emotion": "emotion",
}
SCRIPTORIUM = {
    "youtube": {"n": 8, "accuracy": 0.793, "coverage": 0.534, "majority": 0.868, "snorkel": 0.888},
    "sms": {"n": 8, "accuracy": 0.897, "coverage": 0.815, "majority": 0.672, "snorkel": 0.632},
    "agnews": {"n": 4, "accuracy": 0.818, "coverage": 0.346, "majority": 0.572, "snorkel": 0.597},
}
"""Published: programs, their mean accuracy and coverage, majority vote and Snorkel on test."""

TEXTS = 100_000
ROWS = ("majority", "snorkel", "programs_only", "teacher", "student", "human_lfs", "dev_only", "full_gold")


def made(options: Options, name: str) -> Path:
    """The warehouse of a finished run."""
    folder = Path(options.extra.get("runs") or Path(tempfile.gettempdir()) / "label-factory-programs") / name
    command = [sys.executable, "-m", "factory.cli", "run", name, "--folder", str(folder)]
    done = subprocess.run(
        [*command, "--set", f"data={options.data / SETS[name.removesuffix('_rules')]}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise Skip(f"the pipeline {name} did not end: {done.stderr.strip().splitlines()[-1:]}")
    return folder / f"{name}.duckdb"


def programs_of(path: Path) -> dict[str, Any]:
    """Asked, accepted, refused, tokens, coverage and mean accuracy on test."""
    import duckdb

    with duckdb.connect(str(path), read_only=True) as db:
        db.execute(f"ATTACH '{path.with_suffix('')}.gold.duckdb' AS kept (READ_ONLY)")
        states = dict(
            db.execute("SELECT state, count(*) FROM programs WHERE kind IN ('python', 'rules') GROUP BY 1").fetchall()
        )
        asked = db.execute("SELECT count(*) FROM slots JOIN plans USING (plan_no) WHERE stage = 'author'").fetchone()
        spent = {
            stage: (requests, tokens)
            for stage, requests, tokens in db.execute(
                "SELECT stage, sum(answers), sum(tokens_in + tokens_out) FROM spend GROUP BY stage"
            ).fetchall()
        }
        said = db.execute(
            """WITH test AS (SELECT text_no, count(*) AS n, any_value(label_no) AS gold FROM kept.gold
                             WHERE split = 'test' GROUP BY text_no),
                    each AS (SELECT p.program_no, sum(t.n) FILTER (WHERE v.vote = t.gold) / sum(t.n) AS accuracy,
                                    sum(t.n) / (SELECT sum(n) FROM test) AS coverage
                             FROM programs p JOIN votes v USING (program_no) JOIN test t USING (text_no)
                             WHERE p.state = 'accepted' AND p.kind IN ('python', 'rules') GROUP BY 1)
               SELECT avg(accuracy), avg(coverage) FROM each"""
        ).fetchone()
    accepted = int(states.get("accepted", 0))
    requests, tokens = spent.get("author", (0, 0))
    per_label = spent["annotate"][1] / spent["annotate"][0] if spent.get("annotate") else None
    return {
        "asked": int(asked[0]) if asked else None,
        "accepted": accepted,
        "refused": sum(int(n) for state, n in states.items() if state == "rejected"),
        "author_requests": int(requests),
        "author_tokens": int(tokens),
        "tokens_per_program": round(tokens / accepted) if accepted else None,
        "tokens_per_label": round(per_label, 1) if per_label else None,
        "break_even_texts": round(tokens / per_label) if per_label else None,
        "cheaper_at_100000": round(TEXTS * per_label / tokens) if per_label and tokens else None,
        "mean_accuracy": _rounded(said[0] if said else None),
        "mean_coverage": _rounded(said[1] if said else None),
    }


def scored(options: Options, name: str) -> tuple[dict[str, Any], dict[str, float], dict[str, Any]]:
    """What a finished run says: the summary of its evaluation, its scores, and its programs."""
    from factory.evaluation.record import summary
    from factory.warehouse.file import Warehouse

    path = made(options, name)
    found = summary(Warehouse.open(path))
    if found is None:
        raise Skip(f"the run in {path.parent} was not evaluated")
    scores = {system: _score(found["systems"][system], name) for system in ROWS if system in found["systems"]}
    sizes = {**programs_of(path), "n_test": found["n"], "scores": scores, "evaluations_of_test": found["evaluations"]}
    sizes["coverage"] = _rounded(found["systems"]["majority"]["coverage"])
    return found, scores, sizes


def measured(options: Options, name: str) -> Row:
    """One set."""
    _, scores, sizes = scored(options, name)
    teacher = scores.get("teacher")
    if teacher is not None:
        sizes["label_model_behind_teacher"] = _rounded(teacher - max(scores["majority"], scores.get("snorkel", 0.0)))
        sizes["student_behind_teacher"] = _rounded(teacher - scores["student"])
    published = SCRIPTORIUM.get(name)
    print(_lines(name, sizes, published), file=sys.stderr)
    return row(
        f"programs_{name}",
        scores["majority"],
        published["majority"] if published else None,
        peer_name="ScriptoriumWS, majority vote (published)" if published else None,
        unit="F1 of spam" if name == "sms" else "accuracy",
        published=published,
        **sizes,
    )


def rules_beside_python(options: Options, name: str) -> list[Row]:
    """Lists of rules and Python functions by the same author: the label models, and the student of programs alone."""
    _, rules, sizes = scored(options, f"{name}_rules")
    _, python, peer = scored(options, name)
    print(_lines(f"{name}_rules", sizes, None) + "\n" + _lines(name, peer, None), file=sys.stderr)
    return [
        row(
            f"programs_{name}_rules_{system}",
            rules[system],
            python[system],
            peer_name="Python functions by the same author",
            unit="accuracy",
            peer={key: value for key, value in peer.items() if key != "scores"},
            **sizes,
        )
        for system in ("majority", "snorkel", "programs_only")
        if system in rules and system in python
    ]


def _score(entry: dict[str, Any], name: str) -> float:
    return round(float(entry["metrics"]["f1_positive"] if name == "sms" else entry["accuracy"]), 4)


def _rounded(value: Any) -> float | None:
    return None if value is None else round(float(value), 4)


def _lines(name: str, sizes: dict[str, Any], published: dict[str, Any] | None) -> str:
    scores = ", ".join(f"{system} {score:.3f}" for system, score in sizes["scores"].items())
    beside = json.dumps(published) if published else "none published"
    return (
        f"{name}: {sizes['asked']} programs asked, {sizes['accepted']} accepted, {sizes['refused']} refused;"
        f" {sizes['tokens_per_program']} tokens each; coverage {sizes['coverage']:.3f} (mean of programs"
        f" {sizes['mean_coverage']:.3f}), mean accuracy {sizes['mean_accuracy']:.3f}\n  {scores}\n"
        f"  break-even at {sizes['break_even_texts']} texts; {sizes['cheaper_at_100000']} times cheaper at 100,000;"
        f" ScriptoriumWS: {beside}"
    )


@case("programs_youtube")
def youtube(options: Options) -> Row:
    return measured(options, "youtube")


@case("programs_sms")
def sms(options: Options) -> Row:
    return measured(options, "sms")


@case("programs_trec")
def trec(options: Options) -> Row:
    return measured(options, "trec")


@case("programs_agnews")
def agnews(options: Options) -> Row:
    return measured(options, "agnews")


@case("programs_trec_rules")
def trec_rules(options: Options) -> list[Row]:
    return rules_beside_python(options, "trec")


@case("programs_emotion_rules")
def emotion_rules(options: Options) -> list[Row]:
    return rules_beside_python(options, "emotion")


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--runs", help="folder with a run's folder for each set; what is missing there is made")


if __name__ == "__main__":
    main(__doc__, _arguments)
