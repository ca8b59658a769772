"""Real models for the tests that need them: folders that `tests/prepare_models.py` made, and a tiny one made on the spot."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

PROMPTS = {"query": "query: ", "Classification": "task: classification | query: "}


def model_folder(name: str) -> Path:
    """The folder of a real model in $LABEL_FACTORY_MODELS; skips where it is not there."""
    folder = Path(os.environ.get("LABEL_FACTORY_MODELS", "nowhere")) / name
    if not has_model(name):
        pytest.skip(f"no model {name}: run tests/prepare_models.py and set LABEL_FACTORY_MODELS to its folder")
    return folder


def has_model(name: str) -> bool:
    """Whether there is such a folder."""
    return (Path(os.environ.get("LABEL_FACTORY_MODELS", "nowhere")) / name / "config.json").is_file()


def write_tiny(root: Path, texts: list[str], *, prompts: bool = False, **larger: int) -> Path:
    """A random transformer of two narrow layers (or `larger`) that reads 32 tokens, as a sentence-transformers folder."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    words = sorted({word for text in texts for word in text.lower().replace(",", " ,").split()})
    words += [word for word in ("task", "query", "classification", ":", "|") if word not in words]
    vocabulary = {word: at for at, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
        model_max_length=32,
    )  # fmt: skip
    fast.save_pretrained(str(root / "raw"))
    torch.manual_seed(0)
    narrow = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    config = BertConfig(vocab_size=len(vocabulary), max_position_embeddings=40, **{**narrow, **larger})
    BertModel(config).save_pretrained(str(root / "raw"))
    transformer = Transformer(str(root / "raw"), max_seq_length=32)
    SentenceTransformer(modules=[transformer, Pooling(32, "mean")], device="cpu").save(str(root / "encoder"))
    if prompts:
        told = root / "encoder" / "config_sentence_transformers.json"
        told.write_text(json.dumps({**json.loads(told.read_text()), "prompts": PROMPTS}))
    return root / "encoder"
