"""Sentence encoders compared: what a student learns from their vectors, how long they take, what int8 and shorter vectors cost.

    python tests/benchmarks/encoders.py [--quick] [--only REGEX] [--encoders minilm,mpnet,embeddinggemma]
                                        [--heap 5000] [--tests 2000] [--texts 100000]

`minilm` is the packaged one; the others lie in $LABEL_FACTORY_MODELS (`tests/prepare_models.py`), and cases of those that do not
are skipped. Vectors are kept on disk by the encoder's key, block by block, in $LABEL_FACTORY_BENCH_CACHE (or the cache folder of
graphs), so that a run that was ended goes on where it was and a second one takes a minute. Test gold is read once per case, after
all choices: none is made here.

Cases: `table/SET/ENCODER` (the student on full gold of the heap, on 300 of it, and on recorded programs where there are any, with
seconds per 1,000 texts and MB); `int8/SET/ENCODER`, `dimension/SET/N` and `length/N` (what each costs); `speed/ENCODER` (beside
sentence-transformers on torch, interleaved); `auto/SET`; `end_to_end` (100,000 distinct texts of all sets through the line).
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
import time
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from _harness import Options, Row, Skip, case, compare, main, row
from students_data import encoder_named, run, sample, table

SETS = ("trec", "agnews", "emotion", "reuters21578_90", "amazon_counterfactual_en", "sst5", "knodle_yoruba_topics")
FOLDERS = {"trec": "wrench_trec"}
"""Where a set lies whose folder has another name: the one that its pipeline is recorded on."""
RECORDED = {"trec": "trec", "agnews": "agnews", "emotion": "emotion", "reuters21578_90": "reuters"}
ENCODERS = ("minilm", "mpnet", "embeddinggemma")
BLOCK = 256
FEW = 300


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--encoders", default=",".join(ENCODERS))
    parser.add_argument("--heap", type=int, default=5000, help="texts of training, at most")
    parser.add_argument("--tests", type=int, default=2000, help="texts of test, at most")
    parser.add_argument("--texts", type=int, default=100_000, help="texts of `end_to_end`")


def vectors(encoder: Any, texts: list[str]) -> tuple[np.ndarray, float | None]:
    """Vectors from the disk or made, and the seconds that making 1,000 takes, kept beside them."""
    from factory.encoders.onnx_model import cache_folder

    place = Path(os.environ.get("LABEL_FACTORY_BENCH_CACHE") or cache_folder() / "benchmark") / encoder.key[:16]
    place.mkdir(parents=True, exist_ok=True)
    found, seconds, timed = [], 0.0, 0
    for start in range(0, len(texts), BLOCK):
        part = texts[start : start + BLOCK]
        path = place / f"{hashlib.sha256(chr(0).join(part).encode('utf-8', 'replace')).hexdigest()[:24]}.npz"
        if not path.exists():
            encoder.encode(part[:2])
            began = time.perf_counter()
            made = encoder.encode(part)
            draft = path.with_suffix(".part.npz")
            np.savez(draft, vectors=made, seconds=time.perf_counter() - began)
            draft.rename(path)
            print(
                f"\r  {min(start + BLOCK, len(texts))}/{len(texts)} texts encoded", end="", file=sys.stderr, flush=True
            )
        kept = np.load(path)
        found.append(kept["vectors"])
        seconds, timed = seconds + float(kept["seconds"]), timed + len(part)
    return np.concatenate(found), 1000 * seconds / max(timed, 1)


Set = tuple[list[str], np.ndarray, list[str], np.ndarray, bool]


def read(options: Options, name: str) -> Set:
    """Heap and test of a set, drawn: texts and targets [n, k]; and whether a text may have several labels."""
    most = (600, 300) if options.quick else (10**9, 10**9)
    asked = (min(options.extra[what], limit) for what, limit in zip(("heap", "tests"), most, strict=True))
    return _read(str(options.data / FOLDERS.get(name, name)), *asked)


@lru_cache(maxsize=16)
def _read(folder: str, most_heap: int, most_tests: int) -> Set:
    heap, held = (table(folder, split) for split in ("train", "test"))
    multi = "labels" in heap and "label" not in heap
    column = "labels" if multi else "label"
    sets = [[set(v) if multi else {v} for v in part[column]] for part in (heap, held)]
    known = sorted(set().union(*sets[0]), key=str)
    at = {label: number for number, label in enumerate(known)}

    def drawn(part: dict[str, list[Any]], labels: list[set[Any]], most: int, seed: int) -> tuple[list[str], np.ndarray]:
        rows = sample(len(labels), most, seed)
        targets = np.zeros((len(rows), len(known)))
        for to, row_no in enumerate(rows):
            targets[to, [at[label] for label in labels[row_no] if label in at]] = 1.0
        return [str(part["text"][row_no]) for row_no in rows], targets

    texts, targets = drawn(heap, sets[0], most_heap, 0)
    tests, gold = drawn(held, sets[1], most_tests, 1)
    return texts, targets, tests, gold, multi


def score(
    encoder: Any, texts: list[str], known: np.ndarray, targets: np.ndarray, tests: Any, gold: np.ndarray, multi: bool
) -> float:
    """The default student, trained and tested: accuracy, or micro F1 where a text may have several labels; in points."""
    from factory.students import fit_student
    from factory.students.base import TextsAndVectors

    mass = np.isfinite(targets).all(axis=1) | multi
    student = fit_student(
        "hybrid", TextsAndVectors(texts, known), np.nan_to_num(targets), mass.astype(float), config={"c": 10.0},
        multi=multi, encoder=encoder,
    )  # fmt: skip
    probs = student.predict_proba(tests)
    if not multi:
        return 100 * float((probs.argmax(1) == gold.argmax(1)).mean())
    said, held = probs >= 0.5, gold > 0.5
    return 200 * float((said & held).sum()) / max(float(said.sum() + held.sum()), 1.0)


@lru_cache(maxsize=4)
def taught(name: str) -> tuple[list[str], np.ndarray] | None:
    """Texts and soft labels [n, k] by the recorded programs, the same for all encoders: their model looks at MiniLM's vectors."""
    from factory.distill import read as reading
    from factory.students.stored import texts_of
    from factory.task import current_card
    from factory.warehouse.file import Warehouse

    os.environ["LABEL_FACTORY_ENCODER"] = "minilm"
    place, stem = run(RECORDED[name], FOLDERS.get(name, name), Options())
    warehouse = Warehouse.open(place / f"{stem}.duckdb")
    classes = reading.classes_of(warehouse, current_card(warehouse))
    model = next((one for one in reading.label_models(warehouse) if one.chosen), None)
    if model is None:
        return None
    found = reading.corpus_candidates(warehouse, model, classes)
    rows = np.flatnonzero(found.covered)
    targets = np.zeros((len(rows), len(classes.names)))
    targets[:, [sorted(classes.names).index(label) for label in classes.names]] = found.probs[rows]
    return texts_of(warehouse, found.text_nos[rows].tolist()), targets


def on_programs(
    encoder: Any, name: str, heap: list[str], known: np.ndarray, tests: Any, gold: np.ndarray
) -> float | None:
    """The student on what the recorded programs' label model says of the heap; None where none are recorded."""
    found = taught(name) if name in RECORDED else None
    if found is None:
        return None
    at = {text: number for number, text in enumerate(heap)}
    rows = [number for number, text in enumerate(found[0]) if text in at]
    texts = [found[0][number] for number in rows]
    return score(encoder, texts, known[[at[text] for text in texts]], found[1][rows], tests, gold, False)


def table_row(options: Options, name: str, which: str, case_name: str, **settings: Any) -> Row:
    """One line of the table."""
    from factory.students.base import TextsAndVectors

    if which not in options.extra["encoders"].split(","):
        raise Skip("not among --encoders")
    encoder = encoder_named(which, **settings)
    texts, targets, tests, gold, multi = read(options, name)
    known, per_1000 = vectors(encoder, texts)
    asked = TextsAndVectors(tests, vectors(encoder, tests)[0])
    full = score(encoder, texts, known, targets, asked, gold, multi)
    few = sample(len(texts), FEW, 3)
    three = score(encoder, [texts[at] for at in few], known[few], targets[few], asked, gold, multi)
    programs = None if settings or multi else on_programs(encoder, name, texts, known, asked, gold)
    megabytes = sum(path.stat().st_size for path in encoder.folder.rglob("*.safetensors")) / 1e6
    return row(
        case_name, round(full, 1), unit="micro F1" if multi else "accuracy", gold_300=round(three, 1),
        programs=None if programs is None else round(programs, 1), seconds_per_1000=round(per_1000 or 0.0, 1),
        model_mb=round(megabytes), vectors_mb_per_1000=round(known.shape[1] * 4 / 1000, 2), texts=len(texts),
        tests=len(tests), precision=encoder.settings["precision"], dimension=encoder.dimension,
    )  # fmt: skip


for _set in SETS:
    for _which in ENCODERS:

        @case(f"table/{_set}/{_which}")
        def _table(options: Options, name: str = _set, which: str = _which) -> Row:
            return table_row(options, name, which, f"table/{name}/{which}")


for _set, _which in (("trec", "minilm"), ("agnews", "minilm"), ("trec", "mpnet"), ("trec", "embeddinggemma")):

    @case(f"int8/{_set}/{_which}")
    def _int8(options: Options, name: str = _set, which: str = _which) -> Row:
        near = table_row(options, name, which, f"int8/{name}/{which}")
        exact = table_row(options, name, which, "", precision="fp32")
        return {**near, "peer": exact["ours"], "peer_name": "fp32 (torch)", "gold_300_fp32": exact["gold_300"]}


for _size in (768, 256, 128):

    @case(f"dimension/trec/{_size}")
    def _dimension(options: Options, size: int = _size) -> Row:
        settings = {} if size == 768 else {"dimension": size}
        return table_row(options, "trec", "embeddinggemma", f"dimension/trec/{size}", **settings)


for _size in (128, 256):

    @case(f"length/imdb/{_size}")
    def _length(options: Options, size: int = _size) -> Row:
        """Of a review; windows that are shorter are more, and are joined."""
        return table_row(options, "imdb", "minilm", f"length/imdb/{size}", length=size)


for _which in ENCODERS:

    @case(f"speed/{_which}")
    def _speed(options: Options, which: str = _which) -> list[Row]:
        from factory.encoders.torch_model import load_sentence_transformer

        if which not in options.extra["encoders"].split(","):
            raise Skip("not among --encoders")
        encoder = encoder_named(which)
        texts = table(str(options.data / "agnews"), "train")["text"]
        texts = texts[: {"minilm": 256, "mpnet": 64}.get(which, 48) // (2 if options.quick else 1)]
        model = load_sentence_transformer(encoder.folder)
        theirs: dict[str, Any] = {"prompt": encoder.prompt} if encoder.prompt else {}

        def ours() -> float:
            began = time.perf_counter()
            encoder.encode(texts)
            return len(texts) / (time.perf_counter() - began)

        def peer() -> float:
            began = time.perf_counter()
            model.encode(texts, batch_size=32, show_progress_bar=False, **theirs)
            return len(texts) / (time.perf_counter() - began)

        measured = compare(ours, {"sentence-transformers on torch": peer}, rounds=3 if options.quick else 5)
        return measured.rows(f"speed/{which}", unit="texts/s", texts=len(texts), cores=os.cpu_count())


for _set in SETS:

    @case(f"auto/{_set}")
    def _auto(options: Options, name: str = _set) -> Row:
        from factory.encoders import auto
        from factory.encoders.encoder import on_this_machine

        texts, _, tests, _, _ = read(options, name)
        looked = tuple(texts[: auto.LOOKED_AT])
        tokens = sum(map(len, looked)) / len(looked) / auto.CHARACTERS_PER_TOKEN + 2
        asked = auto.Texts(len(texts) + len(tests), tokens, auto.is_english(looked))
        found = auto.candidates(on_this_machine(), asked, auto.cores_here(False))
        if not found:
            raise Skip("no encoder is on the disk")
        return row(
            f"auto/{name}", round(found[0].seconds), unit="s", chosen=found[0].name, why=auto.in_words(found, asked)
        )


RULES = {
    "World": ("minister", "war", "president", "said", "was"), "Sports": ("game", "season", "team", "he", "his"),
    "Business": ("oil", "shares", "profit", "for", "million"), "Sci/Tech": ("software", "internet", "how", "what"),
}  # fmt: skip
"""Words that stand for four labels: what is timed needs votes on most texts, and not right ones."""


@case("end_to_end")
def _end_to_end(options: Options) -> Row:
    """Ingest, vote, denoise, distill, export of distinct texts of all data sets, no model asked; a million by the same rates."""
    import json
    import subprocess
    import tempfile

    wanted = 3000 if options.quick else options.extra["texts"]
    texts: dict[str, None] = {}
    for path in sorted(options.data.glob("*/train.parquet")):
        columns = table(str(path.parent), "train")
        texts.update(dict.fromkeys(str(text) for text in columns.get("text", []) if text and str(text).strip()))
    every = list(texts)
    chosen = [every[at] for at in sample(len(every), wanted, 5)]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        lines = "\n".join(json.dumps({"text": text}) for text in chosen)
        (folder / "train.jsonl").write_text(lines + "\n", encoding="utf-8")
        labels = "".join(f"    - {{name: {label}, description: about {label}}}\n" for label in RULES)
        (folder / "line.yaml").write_text(
            f"name: line\ntask:\n  name: line\n  text: a text\n  labels:\n{labels}"
            "steps:\n  - ingest: {train: train.jsonl}\n  - vote: {}\n  - denoise: {}\n"
            "  - distill: {encoder: minilm, systems: [student]}\n  - export: {}\n"
        )
        for label, words in RULES.items():
            stem = label.replace("/", "_").lower()
            found = f"any(word in text.lower().split() for word in {words!r})"
            code = f"def label(text):\n    return {label!r} if {found} else None\n"
            (folder / f"{stem}.py").write_text(code)
        base = [sys.executable, "-m", "factory"]
        at = [str(folder / "line.yaml"), "--folder", str(folder / "run")]
        seconds: dict[str, float] = {}
        for verb in ("ingest", "programs", "vote", "denoise", "distill", "export"):
            began = time.perf_counter()
            if verb == "programs":
                for path in sorted(folder.glob("*.py")):
                    subprocess.run(
                        [*base, "programs", "add", str(folder / "run"), str(path)], check=True, stdout=sys.stderr
                    )
            else:
                subprocess.run([*base, "run", *at, "--only", verb], check=True, stdout=sys.stderr)
            seconds[verb] = round(time.perf_counter() - began, 1)
    total = sum(seconds.values())
    grows = {"ingest", "vote", "denoise"}
    million = sum(spent * (1e6 / len(chosen) if verb in grows else 1) for verb, spent in seconds.items())
    return row(
        "end_to_end", round(total, 1), 600.0, peer_name="ten minutes", unit="s", smaller_is_better=True, texts=len(chosen),
        steps=seconds, million_planned_s=round(million), cores=os.cpu_count(),
    )  # fmt: skip


if __name__ == "__main__":
    main(__doc__, arguments)
