"""Why an answer cannot be used."""

from __future__ import annotations


class ParseFailure(Exception):
    """An answer that cannot be read as what was asked for.

    Attributes:
        code: For the warehouse: `no_label`, `ambiguous`, `unknown_label`, `refusal`, `truncated`, `too_long`, `no_program`,
            `not_python`, `not_json`, `wrong_shape`, `empty`.
        words: For the model, when it is asked again; ours, never those of Python.
    """

    def __init__(self, code: str, words: str) -> None:
        self.code = code
        self.words = words
        super().__init__(f"{code}: {words}")
