"""Pipeline files: what is accepted, what is refused, and with which words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from factory.errors import InputError
from factory.pipeline.load import check_engine, find_pipeline, load_pipeline, run_name
from factory.pipeline.schema import pipeline_schema
from factory.pipeline.steps import STEPS, make_step, stage_of
from factory.resources import shipped
from factory.task import read_yaml

CARD = "{name: t, text: a text, labels: [{name: a, description: x}, {name: b, description: y}]}"


def write(folder: Path, text: str) -> Path:
    path = folder / "p.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_every_ready_pipeline_is_valid() -> None:
    ready = sorted(shipped("pipelines").glob("*.yaml"))
    assert {"quickstart", "trec", "youtube"} <= {path.stem for path in ready}
    for path in ready:
        values = {"data": "somewhere", "url": "http://127.0.0.1:1/v1", "model": "m"}
        text = path.read_text(encoding="utf-8")
        pipeline = load_pipeline(path, {name: value for name, value in values.items() if f"${{{name}}}" in text})
        assert pipeline.steps, path


def test_every_ready_pipeline_satisfies_the_json_schema() -> None:
    schema = pipeline_schema()
    for path in sorted(shipped("pipelines").glob("*.yaml")):
        data, _ = read_yaml(path)
        jsonschema.validate(data, schema)


def test_a_ready_pipeline_is_found_by_its_name() -> None:
    assert find_pipeline("quickstart") == shipped("pipelines") / "quickstart.yaml"


def test_every_step_has_a_function_with_checked_parameters() -> None:
    for verb in STEPS:
        assert stage_of(verb).params.model_json_schema()["additionalProperties"] is False


def test_an_unknown_top_key_is_refused_with_line_and_nearest_key(tmp_path: Path) -> None:
    path = write(tmp_path, f"task: {CARD}\nstep:\n  - vote: {{}}\n")
    with pytest.raises(InputError, match=r"p\.yaml:2: unknown key `step`; did you mean `steps`\?"):
        load_pipeline(path)


def test_an_unknown_parameter_is_refused_with_the_line_of_its_step(tmp_path: Path) -> None:
    path = write(tmp_path, f"task: {CARD}\nsteps:\n  - vote: {{}}\n  - denoise: {{modle: auto}}\n")
    with pytest.raises(InputError, match=r"p\.yaml:4: unknown key `modle` in `denoise`; did you mean `model`\?"):
        load_pipeline(path)


def test_an_unknown_step_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"unknown step `denoize`; did you mean `denoise`\?"):
        load_pipeline(write(tmp_path, f"task: {CARD}\nsteps:\n  - denoize: {{}}\n"))


def test_a_wrong_value_says_what_was_given(tmp_path: Path) -> None:
    path = write(
        tmp_path, f"task: {CARD}\nengine: {{kind: recorded, answers: x}}\nsteps:\n  - author: {{programs: many}}\n"
    )
    with pytest.raises(InputError, match=r"`author\.programs`.*given: 'many'"):
        load_pipeline(path)


SERVER = {"kind": "server", "url": "http://127.0.0.1:1/v1"}


@pytest.mark.parametrize(
    ("engine", "words"),
    [
        ({"kind": "servr"}, "`engine.kind` is one of `server`, `vllm`, .*given: 'servr'.*did you mean `server`"),
        ({"kind": "server"}, "p.yaml:3: an engine of kind `server` needs `url`"),
        ({"kind": "batch"}, "an engine of kind `batch` needs `model` and `requests`"),
        (
            {"kind": "server", "url": "127.0.0.1:9"},
            "`url` is http://HOST:PORT/v1 or https://HOST/v1 .*given: '127.0.0.1:9'",
        ),
        ({"kind": "server", "url": "http://a b/v1"}, "`url` is http://HOST:PORT/v1 .*given: 'http://a b/v1'"),
        ({**SERVER, "concurrency": 0}, "`engine.concurrency` is 1 or more .*given: 0"),
        ({**SERVER, "url": 3}, "`engine.url` is a text or a list .*given: 3"),
        ({**SERVER, "structured": "maybe"}, "`engine.structured` is true or false"),
        ({**SERVER, "price": {"input": "dear"}}, "`engine.price.input` is a number .*given: 'dear'"),
        ({**SERVER, "adapters": {"a": 3}}, "`engine.adapters.a` is a text"),
        ({**SERVER, "timeout_s": 0}, "`engine.timeout_s` is above 0"),
    ],
)
def test_a_wrong_value_of_an_engine_is_told_in_the_words_of_a_pipeline(engine: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        check_engine(engine, "p.yaml:3")


@pytest.mark.parametrize(
    ("verb", "params", "words"),
    [
        ("synthesize", {"per_label": -4}, "p.yaml:9: `synthesize.per_label` is 1 or more .*given: -4"),
        ("author", {"programs": 0}, "p.yaml:9: `author.programs` is 1 or more .*given: 0"),
        ("author", {"candidates": -1}, "p.yaml:9: `author.candidates` is 1 or more"),
        (
            "distill",
            {"student": "hybird"},
            "p.yaml:9: `distill.student`: there is no student 'hybird'; did you mean `hybrid`",
        ),
    ],
)
def test_a_value_that_cannot_be_is_refused_before_anything_is_paid_for(
    verb: str, params: dict[str, Any], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        make_step(verb, params, where="p.yaml:9")
    make_step("author", {"candidates": None}, where="p.yaml:9")
    make_step("distill", {"student": "auto"}, where="p.yaml:9")


def test_a_value_of_several_sorts_names_them_all() -> None:
    with pytest.raises(InputError, match=r"`synthesize\.seeds` is a whole number or one of `all`, `none` .*mean `all`"):
        make_step("synthesize", {"seeds": "al"}, where="p.yaml:9")


def test_a_variable_without_a_value_says_how_to_give_one(tmp_path: Path) -> None:
    path = write(tmp_path, f'task: {CARD}\nsteps:\n  - ingest:\n      train: "${{data}}/x.csv"\n')
    with pytest.raises(InputError, match=r"p\.yaml:4: `\$\{data\}` has no value\. Run with --set data=VALUE"):
        load_pipeline(path)
    assert load_pipeline(path, {"data": "here"}).steps[0].params.given()["train"] == "here/x.csv"


def test_an_asking_step_without_an_engine_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="`author` asks a model, and the pipeline has no `engine`"):
        load_pipeline(write(tmp_path, f"task: {CARD}\nsteps:\n  - author: {{}}\n"))


def test_an_unknown_engine_key_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, f"task: {CARD}\nengine: {{kind: server, ulr: http://x}}\nsteps:\n  - author: {{}}\n")
    with pytest.raises(InputError, match="unknown key `ulr` in `engine`"):
        load_pipeline(path)


def test_a_card_error_names_the_line_in_the_card(tmp_path: Path) -> None:
    (tmp_path / "card.yaml").write_text(
        "name: t\ntext: a text\nlabels:\n  - name: a\n    descripton: x\n", encoding="utf-8"
    )
    path = write(tmp_path, "task: card.yaml\nsteps:\n  - vote: {}\n")
    with pytest.raises(InputError, match=r"card\.yaml:[45]: .*labels\.0\.descript"):
        load_pipeline(path)


def verbs(path: Path) -> list[str]:
    return [step.verb for step in load_pipeline(path).steps]


ENGINE = "engine: {kind: recorded, answers: x}\n"


def test_the_standard_line_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, f"task: {CARD}\n{ENGINE}data: {{train: a.csv, test: b.csv}}\nsteps: standard\n")
    line = [
        "ingest",
        "author",
        "vote",
        "synthesize",
        "vote",
        "denoise",
        "distill",
        "annotate",
        "evaluate",
        "export",
        "report",
    ]
    assert verbs(path) == line
    assert load_pipeline(path).steps[0].params.given() == {"train": "a.csv", "test": "b.csv"}
    data, _ = read_yaml(path)
    jsonschema.validate(data, pipeline_schema())


def test_steps_as_a_mapping_change_the_standard_line_and_nothing_else(tmp_path: Path) -> None:
    changes = "steps:\n  author: {programs: 24}\n  synthesize: false\n  annotate:\n  export_data: {dropped: true}\n"
    path = write(tmp_path, f"task: {CARD}\n{ENGINE}data: {{train: a.csv}}\n{changes}")
    assert verbs(path) == [
        "ingest",
        "author",
        "vote",
        "vote",
        "denoise",
        "distill",
        "evaluate",
        "export",
        "annotate",
        "export_data",
        "report",
    ]
    assert load_pipeline(path).steps[1].params.given() == {"programs": 24}
    data, _ = read_yaml(path)
    jsonschema.validate(data, pipeline_schema())
    path = write(tmp_path, f"task: {CARD}\n{ENGINE}data: {{train: a.csv}}\nsteps:\n  denoise: {{modle: auto}}\n")
    with pytest.raises(InputError, match=r"p\.yaml:5: unknown key `modle` in `denoise`; did you mean `model`\?"):
        load_pipeline(path)


AUTO = ["ingest", "buy", "vote", "denoise", "distill", "annotate", "evaluate", "export", "report"]


def test_auto_decides_what_to_buy_and_keeps_the_price_of_the_teachers_row(tmp_path: Path) -> None:
    text = f"task: {CARD}\n{ENGINE}data: {{train: a.csv, test: b.csv}}\nsteps: "
    path = write(tmp_path, f"{text}auto\n")
    assert verbs(path) == AUTO
    steps = {step.verb: step.params.given() for step in load_pipeline(path).steps}
    assert steps["annotate"]["limit"] == steps["buy"]["hold_back"] == 300
    data, _ = read_yaml(path)
    jsonschema.validate(data, pipeline_schema())
    assert verbs(write(tmp_path, text.removesuffix("steps: "))) == AUTO, "the default"
    assert "author" in verbs(write(tmp_path, f"{text}standard\n"))
    path = write(tmp_path, f"{text}{{buy: {{audit: 50}}, distill: {{student: linear}}, annotate: false}}\n")
    assert verbs(path) == [verb for verb in AUTO if verb != "annotate"]
    assert load_pipeline(path).steps[1].params.given() == {"audit": 50, "distill": {"student": "linear"}}
    with pytest.raises(InputError, match=r"unknown key `programs` in `annotate`"):
        load_pipeline(write(tmp_path, f"{text}{{buy: {{annotate: {{programs: 3}}}}}}\n"))
    with pytest.raises(InputError, match="`steps` is a list of steps, `auto`, `standard`, or a mapping"):
        load_pipeline(write(tmp_path, f"{text}atuo\n"))


def test_a_folder_of_data_is_read_by_the_names_of_its_files(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    for name in ("train.jsonl.gz", "validation.csv", "test.parquet", "notes.txt"):
        (folder / name).touch()
    path = write(tmp_path, f"task: {CARD}\n{ENGINE}data: data\n")
    found = load_pipeline(path).steps[0].params.given()
    assert {split: Path(file).name for split, file in found.items()} == {
        "train": "train.jsonl.gz", "dev": "validation.csv", "test": "test.parquet",
    }  # fmt: skip
    (folder / "dev.csv").touch()
    with pytest.raises(InputError, match=r"p\.yaml:3: .* has dev\.csv and validation\.csv, and both may be dev"):
        load_pipeline(path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("data: nowhere\n", r"p\.yaml:3: there is no file or folder .*nowhere"),
        ("data: .\n", r"p\.yaml:3: the folder .* has no train\.csv"),
        ("data: [a.csv]\n", r"p\.yaml:3: `data` is a folder, a file, or a mapping"),
        ("steps: {vote: {}}\n", r"p\.yaml:3: `steps` is a list of steps\. A mapping goes with `data`"),
        ("data: {train: a.csv}\nsteps:\n  vot: {}\n", r"p\.yaml:5: unknown step `vot`; did you mean `vote`\?"),
        ("data: {train: a.csv}\nsteps:\n  vote: no thanks\n", r"p\.yaml:4: what is different about `vote` is a mapping"),
        ("data: {train: a.csv}\nsteps:\n  - ingest: {train: b.csv}\n", r"p\.yaml:4: the texts are given twice"),
        ("data: {trian: a.csv}\n", r"p\.yaml:3: unknown key `trian` in `ingest`; did you mean `train`\?"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_data_or_changes_is_said_with_its_line(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        load_pipeline(write(tmp_path, f"task: {CARD}\n{ENGINE}{text}"))


@pytest.mark.parametrize("name", ["../../escaped/x", "/tmp/x", "a/b", "..", ".hidden", "con", "x" * 65, "a\\b", ""])
def test_a_name_that_leads_out_of_the_runs_is_refused(tmp_path: Path, name: str) -> None:
    text = f"name: {json.dumps(name)}\ntask: {CARD}\nsteps: [vote]\n"
    with pytest.raises(InputError, match=r"p\.yaml:1: `name` cannot be"):
        load_pipeline(write(tmp_path, text))


def test_a_name_in_a_variable_is_checked_when_it_is_filled_in(tmp_path: Path) -> None:
    path = write(tmp_path, f"name: run-${{which}}\nvariables: {{which: a}}\ntask: {CARD}\nsteps: [vote]\n")
    assert load_pipeline(path).name == run_name(path) == "run-a"
    with pytest.raises(InputError, match="`name` cannot be"):
        load_pipeline(path, {"which": "../b"})


def test_a_name_that_needs_a_value_says_what_to_name_instead(tmp_path: Path) -> None:
    path = write(tmp_path, f"name: run-${{which}}\ntask: {CARD}\nsteps: [vote]\n")
    with pytest.raises(InputError, match=r"`\$\{which\}` has no value\. Name the run's folder instead"):
        run_name(path)


def test_variables_that_are_no_mapping_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"p\.yaml:1: `variables` is a mapping"):
        load_pipeline(write(tmp_path, f"variables: [a]\ntask: {CARD}\nsteps: [vote]\n"))
