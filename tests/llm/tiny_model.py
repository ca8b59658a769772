"""A language model small enough to be built in a second: two layers, 64 wide, random weights, a BPE tokenizer, a chat template.

    python tests/llm/tiny_model.py FOLDER [--lora NAME]

Its answers mean nothing; its requests, its scheduling and its structured output are real.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

CONTEXT = 16384

_TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)

_CORPUS = [
    "the quick brown fox jumps over the lazy dog and runs into the forest",
    "a label is one of the classes that a text may have; abstain when unsure",
    "def label(text): return None if not text else 'spam'",
    '{"rules": [{"label": "spam", "keywords": ["free", "win", "click"]}], "default": null}',
    "world sports business technology science question answer positive negative neutral",
    "please subscribe to my channel and check out this video http://example.com !!! 0123456789",
    "What is the capital of France? Who wrote the play? When was the war? How many people?",
]


def build(folder: Path, *, context: int = CONTEXT, vocabulary: int = 600, seed: int = 0) -> Path:
    """Write the model.

    Args:
        folder: Where to; made if it is not there.
        context: Positions that the model knows.
        vocabulary: Tokens of its tokenizer, about.
        seed: Of the weights.

    Returns:
        The folder.
    """
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder.mkdir(parents=True, exist_ok=True)
    special = ["<unk>", "<s>", "</s>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]
    tokenizer = Tokenizer(models.BPE(unk_token=None, byte_fallback=False))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_CORPUS * 20, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="<|end|>", unk_token="<unk>", pad_token="</s>"
    )
    fast.chat_template = _TEMPLATE
    fast.save_pretrained(str(folder))
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(fast),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,  # heads of 32: the smallest that vLLM knows on a CPU
        num_key_value_heads=1,
        max_position_embeddings=context,
        bos_token_id=fast.bos_token_id,
        eos_token_id=fast.eos_token_id,
        pad_token_id=fast.pad_token_id,
        tie_word_embeddings=False,
    )
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(str(folder))
    return folder


def build_lora(folder: Path, *, seed: int = 1, rank: int = 8) -> Path:
    """Write a random LoRA adapter for the model, in PEFT's form.

    Args:
        folder: Where to; made if it is not there.
        seed: Of the weights.
        rank: Of the adapter.

    Returns:
        The folder.
    """
    import torch
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    tensors = {}
    for layer in range(2):
        for name, out in (("q_proj", 64), ("v_proj", 32)):
            stem = f"base_model.model.model.layers.{layer}.self_attn.{name}"
            tensors[f"{stem}.lora_A.weight"] = torch.randn(rank, 64) * 0.5
            tensors[f"{stem}.lora_B.weight"] = torch.randn(out, rank) * 0.5
    save_file(tensors, str(folder / "adapter_model.safetensors"))
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": 16, "target_modules": ["q_proj", "v_proj"], "bias": "none"}
    config |= {"task_type": "CAUSAL_LM", "base_model_name_or_path": "tiny", "lora_dropout": 0.0, "inference_mode": True}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--lora", type=Path, help="also write a LoRA adapter into this folder")
    given = parser.parse_args()
    print(build(given.folder))
    if given.lora:
        print(build_lora(given.lora))
