"""The model card of an export: what it is, what it learned from, how to use it in a few lines, and where it ends."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from factory.encoders.windows import MOST_WINDOWS
from factory.export.examples import examples
from factory.export.spec import NEEDED, ExportSpec

_MARKS = re.compile(r"[\\`*_\[\]~|@$]|:(?=//)|(?<=www)\.", re.IGNORECASE)


def plain(value: object) -> str:
    """What a user or a model wrote, so that Markdown and HTML show it as it is: one line, no link, no tag, no emphasis.

    Example:
        >>> print(plain("[a](http://b) <i>"))
        \\[a\\](http\\://b) &lt;i&gt;
    """
    text = " ".join("".join(char if char.isprintable() else " " for char in str(value)).split())
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _MARKS.sub(r"\\\g<0>", text)


def model_card(spec: ExportSpec, kind: str, parity: Mapping[str, Any], inference: Mapping[str, Any]) -> str:
    """The card as Markdown; the same words for the same export (scores on test are in the report, never here)."""
    many = "any number of these labels" if spec.multi else "exactly one of these labels"
    parts = [
        f"---\nlibrary_name: {_library(kind)}\npipeline_tag: text-classification\ntags: [label-factory, distilled]\n---",
        f"# {plain(spec.name)}",
        f"A compact classifier (`{kind}`, system `{spec.system}`) that gives {plain(spec.text)} {many}:",
        "\n".join(label_line(number, name, words, spec) for number, (name, words) in enumerate(spec.labels.items())),
        "Probabilities come in this order (`labels.json`).",
        "## What it learned from",
        "\n".join(f"- {plain(name)}: {in_words(value)}" for name, value in spec.facts.items())
        or "- nothing is recorded",
        "It was distilled from labels that programs and a language model gave; people labelled only what is said above."
        + _scores(spec),
        "## Use",
        *_usage(spec, kind, inference),
        "## Trust",
        *_trust(spec),
        "## Limits",
        "\n".join(f"- {line}" for line in _limits(spec, kind, inference)),
        "## Checked at export",
        "\n".join(f"- {name.replace('_', ' ')}: {value}" for name, value in sorted(parity.items())),
        "`manifest.json` holds the SHA-256 of every file: it shows damage. It is not signed, so whoever may write to this folder"
        " can change a file and the manifest with it. There is no pickle, and loading runs no code from this folder.",
    ]
    return "\n\n".join(parts) + "\n"


def label_line(number: int, name: str, words: str, spec: ExportSpec) -> str:
    """A label of the card's list."""
    unseen = " *Never seen in training: this model never answers it.*" if name in spec.never_seen else ""
    return f"{number}. **{plain(name)}**: {plain(words)}{unseen}"


def _scores(spec: ExportSpec) -> str:
    if spec.has_test:
        return (
            " Scores on the texts of `test`, where they have gold, are in the report of the run that made it, not here."
        )
    return " The run that made it had no `test` split, so nothing is known of how often it is right."


def _usage(spec: ExportSpec, kind: str, inference: Mapping[str, Any]) -> list[str]:
    needed = ", ".join(f"{name} {oldest} or later" for name, oldest in NEEDED[kind].items())
    found = [
        "With label-factory installed, `factory predict FOLDER FILE --out OUT` labels CSV, JSONL and Parquet files of any size,"
        " and `factory serve FOLDER` answers over HTTP. Without it, in this folder, what `requirements.txt` names is enough"
        f" ({needed}):"
    ]
    for libraries, source in examples(kind, spec.multi, inference).items():
        found += [f"With {libraries} alone:", f"```python\n{source}\n```"]
    if kind in ("hybrid", "transformer"):
        found.append(
            "`model_int8.onnx` is a quarter of the size and about twice as fast. It quantises each token by a scale of its own,"
            " so in either graph a text's answer does not depend on the texts beside it; `model.onnx` is exact."
        )
    if kind == "hybrid":
        found.append(
            "Beside the encoder's vector the head reads tokens and pairs of neighbours (`hybrid.safetensors`), which"
            " sentence-transformers has no module for: use the ONNX graphs."
        )
    if kind == "transformer":
        found.append(
            "`encode` of sentence-transformers gives logits, and reads one window of a text; the ONNX graphs join the windows of"
            " longer texts. SetFit 1.2 can read a head only from a pickle, so it loads the body of this folder and not its head."
        )
    return found


def _trust(spec: ExportSpec) -> list[str]:
    """What the export carries beside probabilities, in options and in formulas."""
    trust, lines = spec.trust, []
    if "temperature" in trust:
        lines.append(
            f"Temperature {trust['temperature']:g}, fitted on {trust['texts']} gold texts of dev, is in the head already."
        )
    if trust.get("conformal"):
        each = "`conformal[label]` of the sorted scores" if spec.multi else "of the sorted scores in `conformal`"
        lines.append(
            "`--sets 0.1`: a set of labels that misses a true one in at most 10 % of texts like those of dev. A label enters if"
            f" its probability is at least 1 - s, where s is the ceil((n + 1) * 0.9)-th smallest {each}."
        )
    if trust.get("abstain"):
        lines.append(
            "`--target-precision 0.95`: no label below the probability from which on 95 % of answers are right (the lower end of"
            " a one-sided 90 % Wilson interval on dev)."
        )
    if trust.get("scope"):
        lines.append(
            f"`--scope 0.05`: `in_scope` is false for texts unlike the {trust['scope']['texts']} it learned from; about 5 % of"
            " texts like those are called so wrongly (more where the encoder itself was tuned on them). The score is the cosine"
            " of `sentence_embedding` to the nearest row of `scope.safetensors`."
        )
    lines = lines or ["It carries probabilities alone."]
    if "temperature" not in trust:
        lines.append("Its probabilities were not calibrated on gold." + _calibrated(spec))
    head = "The numbers stand under `trust` in `inference.json`; options are those of `factory predict` and `factory serve`."
    return [*([head] if trust else []), "\n".join(f"- {line}" for line in lines)]


def _calibrated(spec: ExportSpec) -> str:
    if spec.calibrated is None:
        return " A run with gold in a `dev` split also trains a student whose temperature, sets and thresholds come from it."
    return (
        f" `factory export model RUN FOLDER --system {spec.calibrated}` writes the student of the same run whose temperature,"
        " label sets and thresholds come from gold of dev."
    )


def _limits(spec: ExportSpec, kind: str, inference: Mapping[str, Any]) -> list[str]:
    lines = ["It repeats the mistakes of the labels it learned from; check a sample before you trust it on other data."]
    if spec.never_seen:
        named = ", ".join(plain(name) for name in spec.never_seen)
        lines.append(
            f"No training text had the labels {named}: texts of theirs get another label, however sure it looks."
        )
    lines.append("A text unlike the training texts still gets a label, unless you ask for its scope.")
    if kind == "static":
        lines.append(f"Only the first {inference['max_length']} tokens of a text are read.")
    elif "max_length" in inference:
        lines.append(
            f"A text of more than {inference['max_length']} tokens is read in windows of that length, at most {MOST_WINDOWS} of"
            " them; its vector is the mean of theirs, weighted by tokens."
        )
    if kind == "hybrid":
        lines.append("Tokens and pairs are read in the first window alone.")
    return lines


def _library(kind: str) -> str:
    return {"transformer": "sentence-transformers", "hybrid": "onnx", "static": "onnx"}.get(kind, "numpy")


def in_words(value: Any) -> str:
    """A fact of the card."""
    if isinstance(value, Mapping):
        return ", ".join(f"{plain(name)} {in_words(held)}" for name, held in value.items())
    return plain(value)
