"""A tiny language model with something to learn: it writes texts of a wanted label, and labels texts at random.

Every text begins with a marker word, and its label is the marker's. The model is trained for half a minute on the project's own
prompts, whose fixed lines are single tokens of its tokenizer, so that a chat is short. What it lacks, it can learn from what it
writes.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from factory import prompts
from factory.llm.request import Message, ModelRef
from factory.synthesis.render import Renderer
from factory.synthesis.values import Slot
from factory.task import Label, TaskCard
from factory.tuning.pairs import Pair

CARD = TaskCard(
    name="markers",
    text="a short line of words",
    labels=tuple(Label(name=name, description=f"Lines about {name}.") for name in ("north", "south", "east", "west")),
)
MARKERS = {
    "north": ("fir", "elk", "sleet"),
    "south": ("palm", "lagoon", "cicada"),
    "east": ("tea", "silk", "jade"),
    "west": ("canyon", "bison", "saddle"),
}
FILLERS = (
    "and", "then", "we", "saw", "some", "more", "of", "it", "on", "that", "long", "day", "with", "all", "them", "who", "came",
    "by", "here", "once", "again",
)  # fmt: skip

PROGRAM = f"""
MARKERS = {MARKERS!r}
def label(text):
    words = set(text.split())
    for name, own in MARKERS.items():
        if words & set(own):
            return name
    return None
"""


def line(rng: random.Random, label: str) -> str:
    """A text of a label."""
    words = [rng.choice(FILLERS) for _ in range(rng.randint(6, 9))]
    return " ".join([rng.choice(MARKERS[label]), *words])


def writing(label: str) -> Sequence[Message]:
    """The chat that asks for a text of a label, without examples."""
    renderer = Renderer(CARD, "few_shot", ModelRef("tiny"), length=LENGTH, contrast=False)
    return renderer.request(Slot(0, 0, "write", label, {"examples": [], "count": 1}), {}).messages


def labelling(text: str, shown: Sequence[tuple[str, str]]) -> Sequence[Message]:
    """The chat that asks for the label of a text."""
    demos = [{"text": one, "label": label} for one, label in shown]
    return prompts.load("annotate").messages({**prompts.card_values(CARD), "text": text}, demos)


LENGTH = "usually 7 to 10 words"


def build(folder: Path, *, steps: int = 160, batch: int = 32, seed: int = 0) -> Path:
    """Write the model: `AutoModelForCausalLM` with a chat template.

    Args:
        folder: Where to; made if it is not there.
        steps: Of its training.
        batch: Chats per step.
        seed: Of weights and chats.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from factory.tuning.tokens import encode
    from factory.tuning.train import collate

    rng = random.Random(seed)
    tokenizer = _tokenizer(rng)
    torch.manual_seed(seed)
    model: Any = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2,
            num_key_value_heads=1, max_position_embeddings=2048, bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, tie_word_embeddings=False,
            initializer_range=0.1,
        )
    )  # fmt: skip
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    names = list(MARKERS)
    asked = {name: writing(name) for name in names}
    blank = labelling("{x}", [("{" + name + "}", name) for name in names])
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = 3e-3 * min(1.0, (step + 1) / 20) * (1 - step / steps)
        rows = []
        for _ in range(batch):
            label = rng.choice(names)
            if rng.random() < 0.7:
                pair = Pair(asked[label], f"<text>{line(rng, label)}</text>")
            else:
                texts = {name: line(rng, name) for name in names} | {"x": line(rng, label)}
                pair = Pair([_filled(message, texts) for message in blank], rng.choice(names))
            rows.append(encode(tokenizer, pair))
        loss = model(**collate(rows, tokenizer.pad_token_id)).loss
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
    model.save_pretrained(str(folder))
    tokenizer.save_pretrained(str(folder))
    return folder


def _filled(message: Message, texts: Mapping[str, str]) -> Message:
    content = message["content"]
    for name, text in texts.items():
        content = content.replace("{" + name + "}", text)
    return Message(role=message["role"], content=content)


def _tokenizer(rng: random.Random) -> Any:
    from tiny_model import _TEMPLATE
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    special = ["<unk>", "<s>", "</s>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]
    tokenizer = Tokenizer(models.BPE(unk_token=None, byte_fallback=False))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=700,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = [f"<text>{line(rng, label)}</text> {label}" for _ in range(400) for label in MARKERS]
    tokenizer.train_from_iterator([*texts, *MARKERS] * 2, trainer)
    chats = [writing(label) for label in MARKERS] + [labelling("x", [])]
    fixed = {part for chat in chats for message in chat for part in message["content"].split("\n") if len(part) > 6}
    fixed |= {"# Text\n<text>", "<text>", "</text>", "\n\n"}
    tokenizer.add_tokens([AddedToken(part, normalized=False) for part in sorted(fixed) if part != "<text>x</text>"])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="<|end|>", unk_token="<unk>", pad_token="</s>"
    )
    fast.chat_template = _TEMPLATE
    return fast
