"""A label is split after a run: what is asked again, and what the line makes of the votes and the gold for the old label."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from factory import prompts
from factory.annotation.stage import annotate
from factory.denoise.stage import denoise
from factory.distill.stage import distill
from factory.evaluation.heard import heard
from factory.evaluation.systems import label_space
from factory.llm import EngineSettings, ModelRef, make_engine
from factory.task import load_card, register
from factory.warehouse.tables.anchors import read_anchors
from tests.evaluation.test_anchored_line import filled

SPLIT = load_card(
    {
        "name": "toy", "text": "a line",
        "labels": {
            "fruit": "about fruit", "blade": {"description": "about tools that cut", "was": "tool"},
            "blunt": {"description": "about other tools", "was": "tool"},
        },
    }
)  # fmt: skip
BLADES = ("saw", "chisel", "drill")


def now(text: str, was: str) -> str:
    return was if was != "tool" else "blade" if text.split()[0] in BLADES else "blunt"


@pytest.mark.slow
def test_the_line_learns_the_new_labels_from_what_it_asked_again(tmp_path: Path) -> None:
    import numpy as np

    warehouse, engine = filled(tmp_path)
    annotate(warehouse, engine, anchors=140, audit=40)
    denoise(warehouse, encoder="none")
    distill(warehouse, student="linear", encoder="hashing", systems=["student", "combined"])
    first = int(warehouse.scalar("SELECT count(*) FROM requests"))
    tool = [one.text_no for role in ("audit", "teach") for one in read_anchors(warehouse, role) if 1 in one.labels]  # type: ignore[arg-type]

    register(warehouse, SPLIT)
    texts = dict(warehouse.query("SELECT text_no, text FROM texts"))
    said = []
    for number in tool:
        request = prompts.load("annotate").request({**prompts.card_values(SPLIT), "text": texts[number]}, ModelRef("m"))
        said.append({"key": request.content_key, "sample_no": 0, "answer": now(texts[number], "tool")})
    path = tmp_path / "new.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in said))
    again = make_engine(EngineSettings(kind="recorded", answers=str(path), model="m"), base=tmp_path)
    annotate(warehouse, again, anchors=140, audit=40)  # which would stop if another text were asked about
    assert int(warehouse.scalar("SELECT count(*) FROM requests")) == first + len(tool)

    denoise(warehouse, encoder="none")
    distill(warehouse, student="linear", encoder="hashing", systems=["combined"])
    shape = label_space(warehouse)
    assert dict(zip(shape.names, shape.active.tolist(), strict=True)) == {
        "fruit": True, "tool": False, "blade": True, "blunt": True,
    }  # fmt: skip
    numbers = [
        number for (number,) in warehouse.query("SELECT text_no FROM split_texts WHERE split = 'train' ORDER BY 1")
    ]
    answers = heard(warehouse, np.array(numbers, np.int32), shape)["combined"].labels
    fruit = {"apple", "pear", "plum", "cherry", "grape"}
    right = [
        shape.names[label] == now(texts[number], "fruit" if texts[number].split()[0] in fruit else "tool")
        for number, label in zip(numbers, answers, strict=True)
    ]
    assert np.mean(right) > 0.8
    assert "tool" not in {shape.names[label] for label in answers}
