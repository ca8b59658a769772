"""Students: few-shot and 1,000-row protocols beside published figures, weak labels, several labels per text, throughput.

Test scores choose nothing: defaults were settled on the validation rows of WRENCH. Vectors are computed once and kept in the
folder that LABEL_FACTORY_BENCH_CACHE names, if it is set.

    python tests/benchmarks/students.py --only 'weak_(youtube|trec)'
    python tests/benchmarks/students.py --only throughput
    python tests/benchmarks/students.py --only fewshot8_agnews --seeds 10
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

import numpy as np
import students_gold  # noqa: F401  (registers its cases)
import students_multi  # noqa: F401
import students_weak  # noqa: F401
from _harness import ROOT, Options, case, main, row
from students_data import Rows, encoder, sample, table, vectors


# 4: throughput -----------------------------------------------------------------------------------------------------------
def _trained(options: Options, folder: str, kinds: tuple[str, ...]) -> dict[str, Any]:
    from factory.export.spec import ExportSpec
    from factory.export.write import write_export
    from factory.students import fit_student

    path = str(options.data / folder)
    train, test = table(path, "train"), table(path, "test")
    names = sorted(set(train["label"]))
    rows, held = sample(len(train["text"]), 1000, 0), sample(len(test["text"]), 500 if options.quick else 2000, 7)
    texts, asked = [train["text"][i] for i in rows], [test["text"][i] for i in held]
    targets = np.eye(len(names))[[names.index(train["label"][i]) for i in rows]]
    gold = np.array([names.index(test["label"][i]) for i in held])
    root = Path(tempfile.mkdtemp(prefix="students-bench-"))
    found: dict[str, Any] = {"texts": asked, "gold": gold, "names": names, "train": len(rows), "root": root}
    for kind in kinds:
        taken = vectors(texts) if kind == "embedding" else texts
        student = fit_student(kind, taken, targets, encoder=encoder())
        spec = ExportSpec(folder, "a text", {name: name for name in names}, False)
        write_export(student, encoder(), spec, root / kind, asked[:20])
        found[kind] = root / kind
    return found


def _rate(predict: Any, texts: list[str], rounds: int) -> list[float]:
    predict(texts[:32])
    figures = []
    for _ in range(rounds):
        started = time.perf_counter()
        predict(texts)
        figures.append(len(texts) / (time.perf_counter() - started))
    return figures


def _throughput(name: str, folder: str, options: Options) -> Rows:
    import torch

    from factory.encoders.torch_model import load_sentence_transformer
    from factory.predict.load import load_export

    threads = 1
    torch.set_num_threads(threads)
    made = _trained(options, folder, ("embedding", "static"))
    texts, gold, names = made["texts"], made["gold"], made["names"]
    rounds = 1 if options.quick else 3
    model = load_sentence_transformer(made["embedding"])
    ways: dict[str, Any] = {
        "torch": lambda some: torch.softmax(torch.tensor(model.encode(list(some), show_progress_bar=False)), 1).numpy(),
        "fp32": load_export(made["embedding"], precision="fp32", threads=threads).predict_proba,
        "int8": load_export(made["embedding"], precision="int8", threads=threads).predict_proba,
        "static": load_export(made["static"]).predict_proba,
    }
    said = {way: predict(texts).argmax(1) for way, predict in ways.items()}
    scores = {way: 100 * float((labels == gold).mean()) for way, labels in said.items()}
    agree = {way: 100 * float((labels == said["torch"]).mean()) for way, labels in said.items()}
    timed = texts[:500]
    rates: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, predict in ways.items():
            rates[way] += _rate(predict, timed * (20 if way == "static" else 1), 1)
    middle = {way: statistics.median(values) for way, values in rates.items()}
    size = {way: sum(p.stat().st_size for p in made[kind].glob(glob)) / 1e6 for way, kind, glob in (
        ("int8", "embedding", "model_int8.onnx"), ("fp32", "embedding", "model.onnx"), ("static", "static", "static.*"),
    )}  # fmt: skip
    facts = {
        "texts": len(timed),
        "test_rows": len(texts),
        "threads": threads,
        "train": made["train"],
        "labels": len(names),
        "rounds": rounds,
    }
    wanted = {"int8": (2.0, 0.5), "static": (50.0, 5.0), "fp32": (1.0, 0.5)}
    return [
        row(f"throughput_{name}_{way}", round(middle[way], 1), round(middle["torch"], 1),
            peer_name="sentence-transformers on torch fp32", unit="texts/s", accuracy=round(scores[way], 1),
            torch_accuracy=round(scores["torch"], 1), points_lost=round(scores["torch"] - scores[way], 2),
            same_label_as_torch=round(agree[way], 2),
            megabytes=round(size[way], 1), wanted_ratio=need, wanted_points=most,
            reached=middle[way] >= need * middle["torch"] and round(scores["torch"] - scores[way], 6) <= most,
            spread=[round(min(rates[way]), 1), round(max(rates[way]), 1)], **facts)
        for way, (need, most) in wanted.items()
    ]  # fmt: skip


for _name, _folder in {"youtube": "wrench_youtube", "sms": "wrench_sms", "trec": "trec", "agnews": "agnews"}.items():
    case(f"throughput_{_name}_int8_static")(
        lambda options, name=_name, folder=_folder: _throughput(name, folder, options)
    )


@case("throughput_startup_static")
def startup(options: Options) -> Rows:
    """`factory predict` on a static export, three texts, from process start to exit."""
    made = _trained(options, "trec", ("static",))
    file = made["root"] / "three.jsonl"
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in made["texts"][:3]))
    command = [sys.executable, "-m", "factory.cli", "predict", str(made["static"]), str(file)]
    seconds = []
    for _ in range(3 if options.quick else 5):
        started = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True, cwd=ROOT)
        seconds.append(time.perf_counter() - started)
    return [
        row("throughput_startup_static", round(statistics.median(seconds), 2), 1.0, peer_name="wanted", unit="s",
            smaller_is_better=True, spread=[round(min(seconds), 2), round(max(seconds), 2)])
    ]  # fmt: skip


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--seeds", type=int, default=10, help="Few-shot splits (10 as published).")
    parser.add_argument("--test-rows", type=int, default=1000, help="At most so many test rows of the few-shot cases.")
    parser.add_argument("--students", default="linear,static,embedding,hybrid",
                        help="Students of the rows1000 and multi cases; `finetune` joins the weak ones.")  # fmt: skip


if __name__ == "__main__":
    main(__doc__, _arguments)
