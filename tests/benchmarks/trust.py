"""Trust: are stated rates kept? Scope on CLINC150's out-of-scope texts; temperature, label sets and abstention on three sets.

Everything is fitted on train and dev and judged on test; no test score chooses anything (prototypes were chosen over centroids,
nearest neighbours and Mahalanobis distances on the validation rows of CLINC150 and on training rows of AG News and TREC).

    python tests/benchmarks/trust.py --only scope
    python tests/benchmarks/trust.py --only calibrated
"""

from __future__ import annotations

from typing import Any

import numpy as np
from _harness import Options, case, main, row
from students_data import table, vectors

Rows = list[dict[str, Any]]


def columns(options: Options, name: str, split: str) -> dict[str, list[Any]]:
    """The columns of one split."""
    return table(str(options.data / name), split)


@case("scope_clinc150")
def scope(options: Options) -> Rows:
    """Out-of-scope texts of test told from those of 150 intents, by prototypes and by the highest probability."""
    from sklearn.metrics import roc_auc_score

    from factory.distill.fit_scope import fit_scope
    from factory.predict.scope import limit_for, scope_scores
    from factory.students import fit_student

    train, test = columns(options, "clinc150", "train"), columns(options, "clinc150", "test")
    names = sorted(set(train["label"]) - {"oos"})
    most = 20 if options.quick else 100
    taken: dict[str, int] = {}
    rows = []
    for at, label in enumerate(train["label"]):
        taken[label] = taken.get(label, 0) + 1
        if label != "oos" and taken[label] <= most:
            rows.append(at)
    held = np.arange(len(test["text"]))[:: 4 if options.quick else 1].tolist()
    learned, asked = vectors([train["text"][i] for i in rows]), vectors([test["text"][i] for i in held])
    targets = np.eye(len(names))[[names.index(train["label"][i]) for i in rows]]
    outside = np.array([test["label"][i] == "oos" for i in held])
    probs = fit_student("embedding", learned, targets, config={"c": 10.0}).predict_proba(asked)
    known, arrays = fit_scope(learned, targets, False)
    scores = scope_scores(arrays, asked)
    ours, peer = roc_auc_score(outside, -scores), roc_auc_score(outside, -probs.max(axis=1))
    rates = {}
    for rate in (0.01, 0.05, 0.1):
        called = scores < limit_for(known["scores"], rate)
        rates[f"false_alarms_at_{rate}"] = round(float(called[~outside].mean()), 4)
        rates[f"noticed_at_{rate}"] = round(float(called[outside].mean()), 4)
    facts = {"train": len(rows), "in_scope": int((~outside).sum()), "out_of_scope": int(outside.sum())}
    return [
        row(
            "scope_clinc150",
            round(ours, 4),
            round(peer, 4),
            peer_name="highest probability",
            unit="AUROC",
            **rates,
            **facts,
        )
    ]


SETS = {"agnews": ("agnews", None), "trec": ("trec", None), "emotion": ("emotion", "validation")}


def _calibrated(name: str, options: Options) -> Rows:
    from factory.distill.fit_trust import conformal_scores, fit_temperature
    from factory.evaluation.metrics import calibration
    from factory.predict.trust import Abstain, abstention, conformal_limit
    from factory.students import fit_student

    folder, dev_split = SETS[name]
    train, test = columns(options, folder, "train"), columns(options, folder, "test")
    names = sorted(set(train["label"]))
    order = np.random.default_rng(0).permutation(len(train["text"]))
    n_dev, n_test = 500, 500 if options.quick else 2000
    learned, rest = order[:1000], order[1000 : 1000 + n_dev]
    dev = columns(options, folder, dev_split) if dev_split else train
    picked = np.arange(n_dev) if dev_split else rest
    held = np.random.default_rng(7).permutation(len(test["text"]))[:n_test]

    def gold(table: dict[str, list[Any]], rows: np.ndarray) -> np.ndarray:
        return np.array([names.index(table["label"][i]) for i in rows])

    def given(table: dict[str, list[Any]], rows: np.ndarray) -> np.ndarray:
        return vectors([table["text"][i] for i in rows])

    k = len(names)
    student = fit_student("embedding", given(train, learned), np.eye(k)[gold(train, learned)], config={"c": 1.0})
    known, truth = gold(dev, picked), gold(test, held)
    before, raw = student.predict_proba(given(dev, picked)), student.predict_proba(given(test, held))
    temperature = fit_temperature(before, np.eye(k)[known], False)
    student.scale_temperature(temperature)
    on_dev, probs = student.predict_proba(given(dev, picked)), student.predict_proba(given(test, held))
    facts = {"train": len(learned), "dev": len(picked), "test": len(held), "labels": k, "temperature": temperature}
    found = [
        row(f"calibrated_{name}_ece", round(calibration(probs, truth)["ece"], 4), round(calibration(raw, truth)["ece"], 4),
            peer_name="the same probabilities without a temperature", unit="ECE", smaller_is_better=True, **facts)
    ]  # fmt: skip
    scores = conformal_scores(on_dev, np.eye(k)[known], False)
    for rate in (0.05, 0.1):
        sets = probs >= conformal_limit(scores, rate) - 1e-6
        missed = float((~sets[np.arange(len(truth)), truth]).mean())
        found.append(
            row(f"calibrated_{name}_sets_{rate}", round(missed, 4), rate, peer_name="stated error rate", unit="missed",
                smaller_is_better=True, mean_size=round(float(sets.sum(axis=1).mean()), 2), **facts)
        )  # fmt: skip
    for wanted in (0.9, 0.95):
        limit = abstention(Abstain.of(on_dev, np.eye(k)[known], False), wanted)
        if limit is None:
            found.append({"case": f"calibrated_{name}_precision_{wanted}", "skipped": "no threshold reaches it on dev"})
            continue
        said = probs.max(axis=1) >= limit["threshold"]
        right = float((probs.argmax(axis=1) == truth)[said].mean())
        found.append(
            row(f"calibrated_{name}_precision_{wanted}", round(right, 4), wanted, peer_name="target precision", unit="precision",
                coverage=round(float(said.mean()), 4), **facts)
        )  # fmt: skip
    return found


for _name in SETS:
    case(f"calibrated_{_name}")(lambda options, name=_name: _calibrated(name, options))

if __name__ == "__main__":
    main(__doc__)
