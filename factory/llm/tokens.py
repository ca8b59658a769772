"""Counting a chat's tokens with a model's own tokenizer, where it is available (a folder, or the local hub cache)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any


@lru_cache(maxsize=4)
def _tokenizer(model: str, revision: str | None) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(model, revision=revision, local_files_only=True)
    except (OSError, ValueError, KeyError):
        return None


def count_chat_tokens(model: str, revision: str | None, messages: Sequence[Mapping[str, Any]]) -> int | None:
    """Tokens of a chat as the model sees it, chat template included; None if the tokenizer or its template is not available.

    Args:
        model: Folder or hub name.
        revision: Commit, or None.
        messages: The chat.
    """
    tokenizer = _tokenizer(model, revision)
    if tokenizer is None or not getattr(tokenizer, "chat_template", None):
        return None
    text = tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True)
    return len(tokenizer(text, add_special_tokens=False)["input_ids"])
