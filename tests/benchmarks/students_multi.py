"""Students of several labels per text: unknowns masked and not, beside full gold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from _harness import Options, case, row
from students_data import Rows, encoder, given, label_names, run, sample, table, vectors


# 3: several labels per text ----------------------------------------------------------------------------------------------
def _yes(columns: dict[str, list[Any]], rows: np.ndarray, names: list[str]) -> np.ndarray:
    """Gold of several labels: float64 [n, k] of 0 and 1; labels that are not among the names are left out."""
    out = np.zeros((len(rows), len(names)))
    for at, i in enumerate(rows):
        for each in columns["labels"][i]:
            if each in names:
                out[at, names.index(each)] = 1
    return out


def _multi(
    name: str, texts: list[str], asked: list[str], ways: dict[str, np.ndarray], truth: np.ndarray, options: Options,
    facts: dict[str, Any], votes: np.ndarray | None = None,
) -> Rows:  # fmt: skip
    """Unknowns masked in the loss and taken for no, beside full gold: micro and macro F1, at one half and with even cuts.

    Args:
        name: Of the case.
        texts: To learn from; asked: of test.
        ways: Name -> targets [n, k]; `full gold` among them.
        truth: bool [m, k].
        options: Of the command line.
        facts: For the rows.
        votes: bool [m, k], what the label model itself says of test, or None.
    """

    from sklearn.metrics import f1_score

    from factory.students import fit_student

    def scores(said: np.ndarray) -> tuple[float, float]:
        micro, macro = (f1_score(truth, said, average=way, zero_division=0) for way in ("micro", "macro"))
        return 100 * float(micro), 100 * float(macro)

    found = []
    for kind in str(options.extra.get("students") or "linear").split(","):
        if kind not in ("linear", "embedding", "hybrid"):
            continue
        learned, looked = ((some if kind == "linear" else given(kind, some, vectors(some))) for some in (texts, asked))
        figures: dict[str, tuple[float, float]] = {}
        for way, targets in ways.items():
            student = fit_student(kind, learned, targets, multi=True, encoder=None if kind == "linear" else encoder(),
                                  config={"c": 1.0 if kind == "embedding" else 10.0})  # fmt: skip
            probs = student.predict_proba(looked)
            figures[way] = scores(probs >= 0.5)
            figures[f"{way}, cut"] = scores(probs >= _even_cut(probs, targets))
        more = dict(facts)
        if votes is not None:
            more["label_model_micro_f1"], more["label_model_macro_f1"] = (round(f, 1) for f in scores(votes))
        for way in ways:
            if way == "full gold":
                continue
            micro, macro = figures[way]
            found.append(
                row(f"multi_{name}_{kind}_{way.replace(' ', '_')}", round(micro, 1), round(figures["full gold"][0], 1),
                    peer_name="the same student on full gold", unit="micro F1", macro_f1=round(macro, 1),
                    full_gold_macro_f1=round(figures["full gold"][1], 1),
                    with_even_cuts=[round(f, 1) for f in figures[f"{way}, cut"]],
                    full_gold_with_even_cuts=[round(f, 1) for f in figures["full gold, cut"]], **more)
            )  # fmt: skip
    return found


@case("multi_goemotions")
def multi_goemotions(options: Options) -> Rows:
    """GoEmotions with simulated votes: a fifth of yes and a hundredth of no wrong, three of five unknown."""
    path = str(options.data / "goemotions")
    train, test = table(path, "train"), table(path, "test")
    rows, held = sample(len(train["text"]), 3000, 0), sample(len(test["text"]), 2000, 7)
    names = label_names(Path(path))
    gold, truth = _yes(train, rows, names), _yes(test, held, names) > 0
    rng = np.random.default_rng(0)
    wrong = rng.random(gold.shape) < np.where(gold > 0, 0.2, 0.01)
    votes = np.where(wrong, 1 - gold, gold)
    unknown = rng.random(gold.shape) < 0.6
    voted = np.where(votes > 0, 0.9, 0.1)
    ways = {
        "masked": np.where(unknown, np.nan, voted),
        "unknown as no": np.where(unknown, 0.1, voted),
        "full gold": gold,
    }
    facts = {"train": len(rows), "test": len(held), "labels": len(names), "unknown_share": 0.6, "votes": "simulated"}
    texts, asked = [train["text"][i] for i in rows], [test["text"][i] for i in held]
    return _multi("goemotions", texts, asked, ways, truth, options, facts)


@case("multi_reuters")
def multi_reuters(options: Options) -> Rows:
    """Reuters' ten largest topics with the recorded programs' votes, against full gold."""
    place, name = run("reuters", "reuters21578_90", options)
    from factory.distill import read as reading
    from factory.students.stored import texts_of
    from factory.task import current_card
    from factory.warehouse.file import Warehouse

    warehouse = Warehouse.open(place / f"{name}.duckdb")
    classes = reading.classes_of(warehouse, current_card(warehouse))
    model = reading.label_models(warehouse)[0]
    candidates = reading.corpus_candidates(warehouse, model, classes)
    texts = texts_of(warehouse, candidates.text_nos.tolist())
    held = [no for (no,) in warehouse.query("SELECT text_no FROM split_texts WHERE split = 'test' ORDER BY text_no")]
    asked = texts_of(warehouse, held)
    path, gold = str(options.data / "reuters21578_90"), {}
    for split in ("train", "test"):
        columns = table(path, split)
        gold[split] = dict(zip(columns["text"], columns["labels"], strict=True))
    names = list(classes.names)
    full, truth = (
        _yes({"labels": [gold[split][text] for text in some]}, np.arange(len(some)), names)
        for split, some in (("train", texts), ("test", asked))
    )
    soft = dict(
        warehouse.query(
            "SELECT text_no, probs FROM soft_labels WHERE label_model_no = ? AND text_no IN (SELECT unnest(?))",
            [model.number, held],
        )
    )
    said = np.nan_to_num(classes.narrow(np.array([soft[no] for no in held], float))) >= 0.5
    ways = {"masked": candidates.probs, "unknown as no": np.nan_to_num(candidates.probs), "full gold": full}
    facts = {"train": len(texts), "test": len(asked), "labels": len(names), "label_model": model.name}
    facts |= {"unknown_share": round(float(np.isnan(candidates.probs).mean()), 3), "votes": "recorded programs"}
    return _multi("reuters", texts, asked, ways, truth > 0, options, facts, said)


def _even_cut(probs: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Per label the cut that says yes as often as the known training targets do: no gold of test is used."""
    share = np.nanmean(np.where(np.isnan(targets), np.nan, targets >= 0.5), axis=0)
    return np.array([np.quantile(probs[:, j], 1 - min(max(share[j], 1e-3), 0.999)) for j in range(probs.shape[1])])
