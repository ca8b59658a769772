"""The inference examples of a model card: a few lines with public libraries alone, which a test runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from factory.encoders.windows import MOST_WINDOWS
from factory.students.terms import WORD

_ONNX = """import json
import numpy as np
import onnxruntime
from tokenizers import Tokenizer

facts = json.load(open("inference.json", encoding="utf-8"))
tokenizer = Tokenizer.from_file("tokenizer.json")
tokenizer.enable_truncation(facts["max_length"])
tokenizer.enable_padding(pad_id=facts["pad_id"], pad_to_multiple_of=8)
session = onnxruntime.InferenceSession("model_int8.onnx")  # or model.onnx for fp32

texts = ["a first text", "another one"]
read = [facts["prompt"] + text for text in texts]
cut = [[e, *e.overflowing[: <most>]] for e in tokenizer.encode_batch(read)]  # a long text has several windows
ids = np.array([window.ids for windows in cut for window in windows], np.int64)
mask = np.array([window.attention_mask for windows in cut for window in windows], np.int64)
owner = np.repeat(np.arange(len(cut)), [len(windows) for windows in cut])
shares = ((owner == np.arange(len(cut))[:, None]) * mask.sum(axis=1)).astype(np.float32)
feed = {"input_ids": ids, "attention_mask": mask, "windows": shares}
for text, p in zip(texts, session.run(["probabilities"], feed)[0]):
    print(text, <answer>)"""

_SENTENCE_TRANSFORMERS = """import json
import torch
from sentence_transformers import SentenceTransformer

labels = json.load(open("labels.json", encoding="utf-8"))
model = SentenceTransformer(".")
texts = ["a first text", "another one"]
logits = torch.tensor(model.encode(texts))
for text, p in zip(texts, torch.<squash>.numpy()):
    print(text, <answer>)"""

_STATIC = """import json
import numpy as np
from safetensors.numpy import load_file
from tokenizers import Tokenizer

facts = json.load(open("inference.json", encoding="utf-8"))
arrays = load_file("static.safetensors")
tokenizer = Tokenizer.from_file("tokenizer.json")
tokenizer.no_truncation()
size = len(arrays["embeddings"])
for text in ["a first text", "another one"]:
    ids = np.array(tokenizer.encode(text, add_special_tokens=False).ids[: facts["max_length"]], np.int64)
    vector = arrays["embeddings"][ids].astype(np.float32).sum(axis=0)
    logits = arrays["weight"] @ (vector / max(np.linalg.norm(vector), 1e-12)) + arrays["bias"]
    pairs = ((ids[:-1] * 1_000_003) ^ (ids[1:] * 8_191)) % (len(arrays["idf"]) - size) + size
    grams = np.concatenate([ids, pairs])
    idf = arrays["idf"][grams]
    logits += (idf / max(np.linalg.norm(idf), 1e-12)) @ arrays["grams"][grams]
    p = <probabilities>
    print(text, <answer>)"""

_STATIC_ONNX = """import json
import numpy as np
import onnxruntime
from tokenizers import Tokenizer

facts = json.load(open("inference.json", encoding="utf-8"))
tokenizer = Tokenizer.from_file("tokenizer.json")
tokenizer.enable_truncation(facts["max_length"])
tokenizer.enable_padding()
session = onnxruntime.InferenceSession("model.onnx")

texts = ["a first text", "another one"]
cut = tokenizer.encode_batch(texts, add_special_tokens=False)
ids = np.array([each.ids for each in cut], np.int64)
mask = np.array([each.attention_mask for each in cut], np.int64)
for text, p in zip(texts, session.run(["probabilities"], {"input_ids": ids, "attention_mask": mask})[0]):
    print(text, <answer>)"""

_LINEAR = """import json, re
import numpy as np
from safetensors.numpy import load_file

facts = json.load(open("inference.json", encoding="utf-8"))
column = {term: i for i, term in enumerate(json.load(open("terms.json", encoding="utf-8")))}
arrays = load_file("linear.safetensors")
for text in ["a first text", "another one"]:
    tokens = re.findall(r"<pattern>", text.lower())
    terms = [" ".join(tokens[i : i + n]) for n in <words> for i in range(len(tokens) - n + 1)]<characters>
    vector = np.zeros(len(column))
    for term in set(terms) & set(column):
        vector[column[term]] = (1 + np.log(terms.count(term))) * arrays["idf"][column[term]]
    logits = arrays["weight"] @ (vector / max(np.linalg.norm(vector), 1e-12)) + arrays["bias"]
    p = <probabilities>
    print(text, <answer>)"""

_CHARACTERS = """
    padded = ["\\x02" + token + "\\x03" for token in tokens]
    terms += ["\\x01" + w[i : i + n] for w in padded for n in <sizes> for i in range(len(w) - n + 1)]"""


def examples(kind: str, multi: bool, inference: Mapping[str, Any]) -> dict[str, str]:
    """What to run in an export's folder.

    Args:
        kind: `transformer`, `hybrid`, `static` or `linear`.
        multi: Whether a text may have any number of labels.
        inference: What stands in `inference.json`.

    Returns:
        Names of the libraries to Python source.
    """
    names = 'facts["labels"]'
    answer = f"[{names}[i] for i in np.flatnonzero(p >= 0.5)]" if multi else f"{names}[p.argmax()], p.max()"
    probabilities = (
        "1 / (1 + np.exp(-logits))" if multi else "np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()"
    )
    if kind == "linear":
        first, last = inference["characters"]
        characters = _CHARACTERS.replace("<sizes>", f"range({first}, {last + 1})") if last else ""
        words = tuple(range(inference["words"][0], inference["words"][1] + 1))
        source = _LINEAR.replace("<pattern>", WORD.pattern).replace("<words>", str(words))
        source = source.replace("<characters>", characters)
        return {"numpy and safetensors": _filled(source, answer, probabilities)}
    if kind == "static":
        return {
            "onnxruntime and tokenizers": _filled(_STATIC_ONNX, answer, ""),
            "numpy, safetensors and tokenizers": _filled(_STATIC, answer, probabilities),
        }
    found = {"onnxruntime and tokenizers": _filled(_ONNX.replace("<most>", str(MOST_WINDOWS - 1)), answer, "")}
    if kind == "transformer":
        squash = "sigmoid(logits)" if multi else "softmax(logits, dim=1)"
        chosen = "[labels[i] for i in (p >= 0.5).nonzero()[0]]" if multi else "labels[p.argmax()], p.max()"
        found["sentence-transformers"] = _filled(_SENTENCE_TRANSFORMERS.replace("<squash>", squash), chosen, "")
    return found


def _filled(source: str, answer: str, probabilities: str) -> str:
    return source.replace("<answer>", answer).replace("<probabilities>", probabilities)
