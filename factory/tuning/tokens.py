"""From a pair to token numbers: prompt and completion are tokenised apart, as at inference, and the prompt carries no loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from factory.errors import EngineError
from factory.tuning.pairs import Pair

NO_LOSS = -100
"""What marks a position that carries no loss (the `ignore_index` of torch's cross-entropy)."""


@dataclass(frozen=True)
class Encoded:
    """One pair as token numbers.

    Attributes:
        ids: Prompt, completion and end of turn.
        labels: `NO_LOSS` for every token of the prompt, the token itself for all others; as long as `ids`.
    """

    ids: tuple[int, ...]
    labels: tuple[int, ...]

    @property
    def completion_tokens(self) -> int:
        """How many positions carry loss."""
        return sum(label != NO_LOSS for label in self.labels)


def encode(tokenizer: Any, pair: Pair, *, template: Mapping[str, Any] | None = None) -> Encoded:
    """Tokenise a pair by the model's chat template.

    Args:
        tokenizer: A `transformers` tokenizer with a chat template.
        pair: The pair.
        template: More arguments of the chat template (`{"enable_thinking": False}`), as the engine sends them.

    Raises:
        EngineError: The template does not end an assistant's turn where its generation prompt begins it.
    """
    prompt, completion = turns(tokenizer, pair, template=template)
    before = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    after = tokenizer(completion, add_special_tokens=False)["input_ids"]
    return Encoded((*before, *after), (*[NO_LOSS] * len(before), *after))


def turns(tokenizer: Any, pair: Pair, *, template: Mapping[str, Any] | None = None) -> tuple[str, str]:
    """The prompt as the model is given it, and what it should continue with: the completion and the end of its turn."""
    given = dict(template or {})
    chat: Sequence[Mapping[str, Any]] = [dict(message) for message in pair.messages]
    prompt = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True, **given)
    answered = [*chat, {"role": "assistant", "content": pair.completion}]
    whole = tokenizer.apply_chat_template(answered, tokenize=False, **given)
    end = tokenizer.eos_token or ""
    rest = whole[len(prompt) :] if whole.startswith(prompt) else pair.completion + end
    if pair.completion not in rest:
        raise EngineError(
            "the model's chat template does not show an assistant's answer as it was given",
            fix="Take a model whose template keeps answers as they are, or give `template`",
        )
    place = rest.index(pair.completion) + len(pair.completion)
    tail = rest[place:]
    if end and end in tail:
        tail = tail[: tail.index(end) + len(end)]
    elif not tail.strip():
        tail = end
    return prompt, rest[:place] + tail
