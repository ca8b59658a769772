"""How many programs a task of twenty labels needs: the cases `prepare` and `programs/newsgroups20` of `spending.py`.

Posts of twenty newsgroups without header, quotations and signature (each gives the group away), 72 recorded programs, and 300
recorded labels of training texts. Each dozen is added in the order of its plan; nothing else changes. Gold of test is read for
the rows alone.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import combination_data
from _harness import Options, Row, Skip, case, row
from combination_data import Set, Test, ready
from students_data import encoder_settings

QUOTED = re.compile(
    r"^\s*(?:[>|:}]|\w{1,4}>)|writes in|writes:|wrote:|says:|said:|^In article|^Quoted from|<[^>]*@[^>]*> *$", re.I
)
SIGNATURE = re.compile(r"\n[ \t]*(?:--+|==+|\*\*\*+|__+)[ \t]*\n")
LONGEST_SIGNATURE = 600
DOZEN = 12
NAME = "newsgroups20"


def stripped(post: str) -> str:
    """The body without quoted lines, what introduces them, and the signature."""
    body = post.partition("\n\n")[2]
    text = "\n".join(line for line in body.splitlines() if not QUOTED.search(line))
    last = [found.start() for found in SIGNATURE.finditer(text)][-1:]
    if last and len(text) - last[0] < LONGEST_SIGNATURE:
        text = text[: last[0]]
    return re.sub(r"\n{3,}", "\n\n", text).strip()


def prepared(options: Options) -> Path:
    """A folder with the stripped texts of both splits; those of which nothing is left are not there."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    source, folder = options.data / NAME, Path(options.extra["folder"]) / f"{NAME}-stripped"
    if not (source / "train.parquet").is_file():
        raise Skip(f"no {source}")
    folder.mkdir(parents=True, exist_ok=True)
    for split in ("train", "test"):
        if (folder / f"{split}.parquet").is_file():
            continue
        found = pq.read_table(source / f"{split}.parquet", columns=["text", "label"]).to_pydict()
        rows = [(stripped(text), label) for text, label in zip(found["text"], found["label"], strict=True)]
        rows = [one for one in rows if one[0]]
        draft = folder / f"{split}.part"
        pq.write_table(pa.table({"text": [text for text, _ in rows], "label": [label for _, label in rows]}), draft)
        draft.rename(folder / f"{split}.parquet")
    return folder


@case("prepare")
def prepare(options: Options) -> Row:
    """Write the stripped texts, for `factory run newsgroups20 --set data=FOLDER`."""
    folder = prepared(options)
    print(f"--set data={folder}", file=sys.stderr)
    return row("prepare", sum(1 for _ in folder.glob("*.parquet")), unit="files", folder=str(folder))


@case(f"programs/{NAME}")
def programs(options: Options) -> list[Row]:
    """Label model, students and mixture on the first 12, 24, ... 72 programs."""
    from factory.annotation.stage import annotate
    from factory.denoise.stage import denoise
    from factory.distill.stage import distill
    from factory.evaluation.rivals import model_labels
    from factory.programs.manage import approve_program, reject_program
    from factory.warehouse.tables.gold import gold_file
    from factory.warehouse.tables.labels import label_models

    if options.quick:
        raise Skip("not in --quick")
    combination_data.SETS[NAME] = Set(NAME, str(prepared(options)), 300, (300,))
    encoder = options.extra["encoder"]
    settings = encoder_settings(encoder)
    of = ready(NAME, settings, options)
    warehouse = of.warehouse
    annotate(warehouse, of.engine, anchors=300, audit=0, among=len(model_labels(warehouse)))
    sql = (
        "SELECT program_no FROM programs WHERE kind IN ('python', 'rules')"
        " AND (state = 'accepted' OR drop_reason = ?) ORDER BY program_no"
    )
    written = [number for (number,) in warehouse.query(sql, [_LATER])]
    rows: list[Row] = []
    before: dict[str, float] = {}
    with gold_file(warehouse) as db:
        test = Test(of, db)
        alone = None
        for count in range(DOZEN, len(written) + DOZEN, DOZEN):
            for at, number in enumerate(written):
                if at < count:
                    approve_program(warehouse, number)
                else:
                    reject_program(warehouse, number, reason=_LATER)
            denoise(warehouse, encoder=settings)
            distill(warehouse, systems=["student", "combined"], encoder=settings)
            if alone is None:  # by the recipe of a student, so once there is one
                alone = test.score("teacher_labels_300", test.rivals([300])["teacher_labels_300"])
            said = test.students()
            chosen = next(model.name for model in label_models(warehouse) if model.chosen)
            figures = {
                name: test.score(name, said[name])
                for name in (chosen, "student", "mixture", "combined")
                if name in said
            }
            by_label = test.f1_of_labels(said["combined"])
            gained = {name: round(f1 - before[name], 3) for name, f1 in by_label.items() if before}
            before = by_label
            rows.append(row(
                f"programs/{NAME}/{count}", figures["combined"]["accuracy"], alone["accuracy"], peer_name="300 labels alone",
                unit="accuracy", programs=min(count, len(written)), anchors=300, label_model=chosen, encoder=encoder,
                systems={name: {key: one[key] for key in ("accuracy", "macro_f1", "ci95")} for name, one in figures.items()},
                f1_of_labels=by_label, gained=gained, test=len(test.gold),
            ))  # fmt: skip
            print(
                f"{count}: " + ", ".join(f"{name} {one['accuracy']:.3f}" for name, one in figures.items()),
                file=sys.stderr,
            )
    return rows


_LATER = "not among the first programs"
