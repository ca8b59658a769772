"""`measure`: how varied the accepted texts of each method and label are, and how like the real ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from factory.encoders.settings import Named
from factory.params import Call, Params, stage
from factory.result import StageResult
from factory.synthesis import measures
from factory.warehouse.tables.programs import accepted
from factory.warehouse.tables.texts import sample_texts
from factory.warehouse.tables.votes import dense_votes

if TYPE_CHECKING:
    from factory.encoders.base import Encoder
    from factory.warehouse.file import Warehouse


class MeasureParams(Params):
    """The parameters of `measure`."""

    encoder: Named = Field(
        "auto", description="For distances and for telling synthetic from real; `auto` as everywhere."
    )
    most: int = Field(500, ge=2, description="Texts per row that are measured, drawn. 500 are few enough to measure in"
        " seconds, and give steady figures.")  # fmt: skip
    entities: str = Field("en_core_web_lg", description="spaCy's model for the entropy of named entities, as in the"
        " literature; left out where it is not installed.")  # fmt: skip
    mauve: str | None = Field(None, description="Model for MAUVE (`gpt2-xl` in SynthesizRR). Not computed by default: it is"
        " large.")  # fmt: skip
    random_seed: int = Field(0, ge=0, description="Of the draws.")


@stage("measure", MeasureParams)
def measure(warehouse: Warehouse, params: MeasureParams, call: Call) -> StageResult:
    """Measure the accepted synthetic texts, per method and label and per method as a whole.

    Reads synthetic texts, real ones (split `train`), and votes. Every row says on how many texts it was measured (`n`): rows
    of unlike size are not comparable in self-BLEU, distinct-n and compression. Nothing is stored but the step's own record.

    Returns:
        `did["rows"]`: method, label (None: all), n, self_bleu 1 to 5, distinct_1 to 3, compression, mean_distance, words,
        auroc_real, passages_used, program_agreement, entity_entropy, mauve.
    """
    from factory.encoders.encoder import load_encoder
    from factory.encoders.vectors import vectors_of

    call.begin()
    most, random_seed = params.most, params.random_seed
    texts = _texts(warehouse)
    real = _real(warehouse, most, random_seed)
    found = load_encoder(params.encoder, warehouse)
    rows: list[dict[str, Any]] = []
    groups = _groups(texts)
    for done, ((method, label), members) in enumerate(groups.items()):
        call.progress(done, len(groups), f"{method} {label or 'as a whole'}")
        drawn = np.random.default_rng([random_seed, 9]).permutation(len(members))[:most]
        some = [members[at] for at in sorted(drawn.tolist())]
        vectors = vectors_of(warehouse, found, [text_no for text_no, _, _ in some])
        row = {"method": method, "label": label, **measures.diversity([text for _, text, _ in some], vectors)}
        row["entity_entropy"] = measures.entity_entropy([text for _, text, _ in some], model=params.entities)
        if label is None and real:
            row |= _fidelity(warehouse, found, real, [text for _, text, _ in some], vectors, params.mauve, random_seed)
        row["program_agreement"] = agreement(warehouse, [(text_no, number) for text_no, _, number in some])
        if label is None:
            row["passages_used"] = passages_used(warehouse, method)
        rows.append(row)
    says = [found.says, *(_line(row) for row in rows if row["label"] is None)]
    return StageResult("measure", did={"rows": rows}, says=tuple(says))


def agreement(warehouse: Warehouse, labelled: Sequence[tuple[int, int]]) -> dict[str, float] | None:
    """How often the programs' majority is the label of a text, over the texts where it is clear; None where none is.

    Args:
        warehouse: Its votes.
        labelled: `(text_no, label_no)`.
    """
    free = [program.number for program in accepted(warehouse) if program.target_no is None]
    votes = dense_votes(warehouse, free, [text_no for text_no, _ in labelled])
    labels = np.array([label_no for _, label_no in labelled])
    counts = np.stack(
        [(votes == label).sum(axis=1) for label in range(max(votes.max(initial=0), labels.max()) + 1)], axis=1
    )
    most = counts.max(axis=1, keepdims=True)
    clear = (most[:, 0] > 0) & ((counts == most).sum(axis=1) == 1)
    n, right = int(clear.sum()), int((counts.argmax(axis=1) == labels)[clear].sum())
    return {"share": round(right / n, 4), "of": round(n / len(labelled), 4)} if n else None


def passages_used(warehouse: Warehouse, method: str) -> dict[str, int] | None:
    """How many different passages were asked about, and how many gave an accepted text; None for methods without passages."""
    ((asked, used),) = warehouse.query(
        "SELECT (SELECT count(DISTINCT s.parents ->> '$.passage') FROM slots s JOIN plans p USING (plan_no)"
        "   WHERE p.config ->> '$.name' = ? AND p.stage = 'synthesize'),"
        " (SELECT count(DISTINCT passage_text_no) FROM synthetic WHERE method = ? AND state = 'accepted')",
        [method, method],
    )
    return {"asked": asked, "accepted": used} if asked else None


def _fidelity(
    warehouse: Warehouse,
    encoder: Encoder,
    real: Mapping[int, str],
    texts: Sequence[str],
    vectors: Any,
    mauve: str | None,
    random_seed: int,
) -> dict[str, Any]:
    from factory.encoders.vectors import vectors_of

    apart = measures.separability(vectors_of(warehouse, encoder, list(real)), vectors, random_seed=random_seed)
    told: dict[str, Any] = {"auroc_real": None if np.isnan(apart) else round(apart, 4)}
    if mauve is not None:
        told["mauve"] = measures.mauve_score(list(real.values()), texts, model=mauve, random_seed=random_seed)
    return told


def _texts(warehouse: Warehouse) -> list[tuple[str, str, int, str, int]]:
    return warehouse.query(
        "SELECT s.method, l.name, s.text_no, s.text, s.label_no FROM synthetic s JOIN labels l USING (label_no)"
        " WHERE s.state = 'accepted' AND s.text_no IS NOT NULL ORDER BY s.method, l.label_no, md5(s.text), s.text_no"
    )


def _groups(
    texts: Sequence[tuple[str, str, int, str, int]],
) -> dict[tuple[str, str | None], list[tuple[int, str, int]]]:
    groups: dict[tuple[str, str | None], list[tuple[int, str, int]]] = {}
    for method, _, text_no, text, label_no in texts:
        groups.setdefault((method, None), []).append((text_no, text, label_no))
    for method, label, text_no, text, label_no in texts:
        groups.setdefault((method, label), []).append((text_no, text, label_no))
    return groups


def _real(warehouse: Warehouse, most: int, random_seed: int) -> dict[int, str]:
    return dict(sample_texts(warehouse, most, str(random_seed), drawn_by="md5"))


def _line(row: Mapping[str, Any]) -> str:
    facts = [
        f"self-BLEU-5 {row['self_bleu'][4]}",
        f"distinct-2 {row['distinct_2']}",
        f"compression {row['compression']}",
    ]
    if row.get("auroc_real") is not None:
        facts.append(f"told from real texts at AUROC {row['auroc_real']}")
    if row.get("program_agreement"):
        facts.append(f"programs agree with {row['program_agreement']['share']:.0%}")
    return f"{row['method']} ({row['n']} texts): {', '.join(facts)}"
