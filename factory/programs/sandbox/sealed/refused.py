"""How the static checks say no."""

from __future__ import annotations


class Refused(Exception):
    """A program is refused.

    Attributes:
        code: `syntax`, `too_long`, `construct`, `import`, `member`, `attribute`, `name`, `state`, `label`, `no_label`.
        words: What is wrong and where, in our words.
    """

    def __init__(self, code: str, words: str, line: int | None = None) -> None:
        self.code = code
        self.words = f"line {line}: {words}" if line else words
        super().__init__(f"{code}: {self.words}")


def show(name: str) -> str:
    """A name as it is put into words: printable, and not too long."""
    return "`" + "".join(c for c in name[:60] if c.isprintable()) + "`"
