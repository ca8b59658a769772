"""The model card of an export: what it is, what it learned from, how to use it in a few lines, and where it ends."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from factory.students.export import ExportSpec

_ONNX = """```python
import json
import numpy as np
import onnxruntime
from tokenizers import Tokenizer

folder = "."
facts = json.load(open(f"{folder}/inference.json", encoding="utf-8"))
tokenizer = Tokenizer.from_file(f"{folder}/tokenizer.json")
tokenizer.enable_truncation(facts["max_length"])
tokenizer.enable_padding(pad_id=facts["pad_id"], pad_to_multiple_of=8)
session = onnxruntime.InferenceSession(f"{folder}/model_int8.onnx")  # or model.onnx for fp32

texts = ["a first text", "another one"]
encoded = tokenizer.encode_batch(texts)
ids = np.array([e.ids for e in encoded], np.int64)
mask = np.array([e.attention_mask for e in encoded], np.int64)
probabilities = session.run(["probabilities"], {"input_ids": ids, "attention_mask": mask})[0]
for text, row in zip(texts, probabilities):
    print(text, facts["labels"][row.argmax()], row.max())
```"""

_SENTENCE_TRANSFORMERS = """```python
import json
import torch
from sentence_transformers import SentenceTransformer

labels = json.load(open("labels.json", encoding="utf-8"))
model = SentenceTransformer(".")
logits = torch.tensor(model.encode(["a first text", "another one"]))
print([labels[i] for i in {squash}])
```"""

_STATIC = """```python
import json
import numpy as np
from safetensors.numpy import load_file
from tokenizers import Tokenizer

facts = json.load(open("inference.json", encoding="utf-8"))
arrays = load_file("static.safetensors")
tokenizer = Tokenizer.from_file("tokenizer.json")
tokenizer.no_truncation()
tokenizer.no_padding()

for text in ["a first text", "another one"]:
    ids = np.array(tokenizer.encode(text, add_special_tokens=False).ids[: facts["max_length"]], np.int64)
    vector = arrays["embeddings"][ids].astype(np.float32).sum(axis=0)
    vector /= max(np.linalg.norm(vector), 1e-12)
    size = len(arrays["embeddings"])
    pairs = ((ids[:-1] * 1_000_003) ^ (ids[1:] * 8_191)) % (len(arrays["idf"]) - size) + size
    grams = np.concatenate([ids, pairs])
    idf = arrays["idf"][grams]
    logits = arrays["weight"] @ vector + arrays["bias"]
    logits += (idf / max(np.linalg.norm(idf), 1e-12)) @ arrays["grams"][grams]
    print(text, facts["labels"][logits.argmax()])
```"""

_LINEAR = """```python
import json, re
import numpy as np
from safetensors.numpy import load_file

facts = json.load(open("inference.json", encoding="utf-8"))
column = {{term: i for i, term in enumerate(json.load(open("terms.json", encoding="utf-8")))}}
arrays = load_file("linear.safetensors")

for text in ["a first text", "another one"]:
    tokens = re.findall(r"{pattern}", text.lower())
    terms = [" ".join(tokens[i : i + n]) for n in {words} for i in range(len(tokens) - n + 1)]
    vector = np.zeros(len(column))
    for term in set(terms) & set(column):
        vector[column[term]] = (1 + np.log(terms.count(term))) * arrays["idf"][column[term]]
    vector /= max(np.linalg.norm(vector), 1e-12)
    logits = arrays["weight"] @ vector + arrays["bias"]
    print(text, facts["labels"][logits.argmax()])
```"""


def model_card(spec: ExportSpec, kind: str, parity: Mapping[str, Any], inference: Mapping[str, Any]) -> str:
    """The card as Markdown; the same words for the same export (test scores stand in the report, never here)."""
    many = "any number of these labels" if spec.multi else "exactly one of these labels"
    parts = [
        f"---\nlibrary_name: {_library(kind)}\npipeline_tag: text-classification\ntags: [label-factory, distilled]\n---",
        f"# {spec.name}",
        f"A compact classifier (`{kind}`, system `{spec.system}`) that gives {spec.text} {many}:",
        "\n".join(f"{number}. **{name}**: {words}" for number, (name, words) in enumerate(spec.labels.items())),
        "Probabilities come in this order (`labels.json`).",
        "## What it learned from",
        "\n".join(f"- {name}: {_words(value)}" for name, value in spec.facts.items()) or "- nothing is recorded",
        "It was distilled from labels that programs and a language model gave; people labelled only what is said above."
        " Its scores on held-out gold stand in the report of the run that made it, not here.",
        "## Use",
        *_usage(spec, kind, inference),
        "With label-factory installed: `factory predict FOLDER FILE` labels CSV, JSONL and Parquet files of any size.",
        "## Limits",
        "- It repeats the mistakes of the labels it learned from; check a sample before you trust it on other data.\n"
        "- A text unlike the training texts still gets a label; "
        + (
            "`inference.json` carries what is needed to notice such texts."
            if spec.trust
            else "nothing here notices that."
        )
        + (
            f"\n- Only the first {inference['max_length']} tokens of a text are read."
            if "max_length" in inference
            else ""
        ),
        "## Checked at export",
        "\n".join(f"- {name.replace('_', ' ')}: {value}" for name, value in sorted(parity.items())),
        "`manifest.json` holds the SHA-256 of every file. There is no pickle, and loading runs no code from this folder.",
    ]
    return "\n\n".join(parts) + "\n"


def _usage(spec: ExportSpec, kind: str, inference: Mapping[str, Any]) -> list[str]:
    if kind == "linear":
        from factory.students.terms import WORD

        sizes = tuple(range(inference["words"][0], inference["words"][1] + 1))
        return ["With numpy and safetensors:", _LINEAR.format(pattern=WORD.pattern, words=sizes)]
    if kind == "static":
        return ["With numpy, safetensors and tokenizers:", _STATIC]
    if kind == "hybrid":
        return [
            "With onnxruntime and tokenizers alone:",
            _ONNX,
            "Beside the encoder's vector the head reads tokens and pairs of neighbours (`hybrid.safetensors`), which"
            " sentence-transformers has no module for: use the ONNX graphs.",
        ]
    squash = "logits.argmax(dim=1)"
    if spec.multi:
        squash = "torch.nonzero(torch.sigmoid(logits[0]) >= 0.5).flatten()"
    return [
        "With onnxruntime and tokenizers alone:",
        _ONNX,
        "With sentence-transformers (`encode` gives logits; their softmax, or sigmoid for a multi task, the probabilities):",
        _SENTENCE_TRANSFORMERS.format(squash=squash),
        "SetFit 1.2 can read a head only from a pickle, so it loads the body of this folder and not its head.",
    ]


def _library(kind: str) -> str:
    return {"transformer": "sentence-transformers", "hybrid": "onnx"}.get(kind, "numpy")


def _words(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_words(held)}" for name, held in value.items())
    return str(value)
