"""Labels found by `factory discover` beside gold that it never read, and what a student learns from them.

    python tests/benchmarks/discover.py --found 'FOLDER/{}/out' [--quick] [--only REGEX]

`SET/labels` and `SET/student` take what `factory discover SET/train.parquet` wrote into the folder of --found, where `{}` stands
for the set. Gold is read here alone. `labels`: adjusted Rand and normalised mutual information on the texts that have a found
label; the number of labels; the share of fresh texts that got the same label twice. `student`: the embedding student on MiniLM,
taught by `texts.csv`, each found label standing for the gold label that most of its texts have, beside the same student taught
with the given labels of the same texts, both on the test split (of clinc150 on texts in scope, the others beside). Without
--found the cases are skipped: discovering needs a model.
"""

from __future__ import annotations

import csv
import re
from argparse import ArgumentParser
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from _harness import Options, Skip, case, main, row
from students_data import Rows, sample, table, vectors

SETS = {"banking77": None, "clinc150": "oos", "newsgroups20": None}
"""Set -> the gold label of texts out of scope."""
STRENGTH = 10.0
"""`c` of both students: that of the few-shot cases of `students.py`."""
AIM, NEAR = 0.85, 0.25
"""Of the score on given labels; and by what share the number of labels may miss the true one."""
_ALIKE = re.compile(r"(\d+) fresh texts were labelled twice: (\d+)% got the same label")


@dataclass(frozen=True)
class Found:
    """Texts with the label that was found and the one that was given.

    Attributes:
        texts, found, gold: Of the same length.
        labels: Labels of the induced card.
        looked_at: How many texts were discovered on.
        alike: The share of fresh texts that got the same label twice, in words; None where nothing was checked.
        given: Gold labels of the whole training split.
    """

    texts: list[str]
    found: list[str]
    gold: list[str]
    labels: int
    looked_at: int
    alike: str | None
    given: int

    @property
    def stands_for(self) -> dict[str, str]:
        """Found label -> the gold label that most of its texts have."""
        counts: dict[str, Counter[str]] = defaultdict(Counter)
        for found, gold in zip(self.found, self.gold, strict=True):
            counts[found][gold] += 1
        return {name: min(count, key=lambda gold: (-count[gold], gold)) for name, count in counts.items()}


def read(name: str, options: Options) -> Found:
    """What was discovered in a set, with the gold of its texts."""
    from factory.task import load_card

    where = options.extra.get("found")
    if not where:
        raise Skip("give the folder of `factory discover` with --found")
    folder = Path(str(where).replace("{}", name))
    if not (folder / "texts.csv").exists():
        raise Skip(f"no discovery in {folder}")
    columns = table(str(options.data / name), "train")
    gold_of = {_plain(text): label for text, label in zip(columns["text"], columns["label"], strict=True)}
    with (folder / "texts.csv").open(encoding="utf-8", newline="") as stream:
        rows = [(one["text"], one["label"], gold_of[_plain(one["text"])]) for one in csv.DictReader(stream)]
    page = (folder / "discovery.md").read_text(encoding="utf-8")
    looked = re.search(r"Labels found in ([\d,]+) texts", page)
    checked = _ALIKE.search(page)
    texts, found, gold = (list(column) for column in zip(*rows, strict=True))
    return Found(
        texts, found, gold, len(load_card(folder / "task.yaml").labels) - 1,
        int(looked[1].replace(",", "")) if looked else len(rows),
        f"{checked[2]}% of {checked[1]}" if checked else None, len(set(columns["label"])),
    )  # fmt: skip


def labels(name: str, options: Options) -> Rows:
    """Found labels beside gold, on the texts that have one."""
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    found = read(name, options)
    stands_for = found.stands_for
    facts = {
        "texts": len(found.texts), "labelled": round(len(found.texts) / found.looked_at, 3), "alike_twice": found.alike,
        "nmi": round(float(normalized_mutual_info_score(found.gold, found.found)), 3),
        "pure": round(float(np.mean([stands_for[a] == b for a, b in zip(found.found, found.gold, strict=True)])), 3),
        "gold_labels_stood_for": len(set(stands_for.values())), "gold_labels_of_texts": len(set(found.gold)),
    }  # fmt: skip
    return [
        row(f"{name}/labels/rand", round(float(adjusted_rand_score(found.gold, found.found)), 3),
            unit="adjusted Rand", **facts),
        row(f"{name}/labels/number", found.labels, found.given, peer_name="given labels", unit="labels",
            reached=abs(found.labels - found.given) <= NEAR * found.given),
    ]  # fmt: skip


def student(name: str, options: Options) -> Rows:
    """A student of found labels beside one of given labels, on test texts."""
    found, outside = read(name, options), SETS[name]
    columns = table(str(options.data / name), "test")
    rows = sample(len(columns["text"]), 600 if options.quick else len(columns["text"]), 7)
    texts, gold = ([columns[key][at] for at in rows] for key in ("text", "label"))
    known, asked = vectors(found.texts), vectors(texts)
    stands_for = found.stands_for
    mapped = [stands_for[label] for label in _taught(known, found.found, asked)]
    given = _taught(known, found.gold, asked)
    right = {kind: np.array([a == b for a, b in zip(said, gold, strict=True)])
             for kind, said in {"found": mapped, "given": given}.items()}  # fmt: skip
    inside = np.array([label != outside for label in gold])
    ours, peer = (round(100 * float(right[kind][inside].mean()), 1) for kind in ("found", "given"))
    facts: dict[str, Any] = {"train": len(found.texts), "test": int(inside.sum())}
    if outside is not None:
        facts |= {f"out_of_scope_recall_{kind}": round(float(right[kind][~inside].mean()), 3) for kind in right}
    return [
        row(f"{name}/student", ours, peer, peer_name="the same student on the given labels of the same texts",
            unit="accuracy", reached=ours >= AIM * peer, **facts)
    ]  # fmt: skip


def _taught(known: np.ndarray, names: list[str], asked: np.ndarray) -> list[str]:
    """What a student of these labels says of other texts."""
    from factory.students import fit_student

    order = sorted(set(names))
    targets = np.eye(len(order))[[order.index(name) for name in names]]
    taught = fit_student("embedding", known, targets, config={"c": STRENGTH})
    return [order[at] for at in taught.predict_proba(asked).argmax(1)]


def _plain(text: str) -> str:
    return " ".join(text.split())


for _name in SETS:
    case(f"{_name}/labels")(lambda options, name=_name: labels(name, options))
    case(f"{_name}/student")(lambda options, name=_name: student(name, options))


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--found", help="the folder of `factory discover --out`, with {} for the name of the set")


if __name__ == "__main__":
    main(__doc__, _arguments)
