"""The sealed side of the sandbox: everything here runs in worker processes and imports the standard library alone.

policy    the static allow-list over the syntax tree
returned  the texts that a program returns by name
refused   how the static check says no
state     what a program holds between two calls
facades   the builtins and module members a program may use
layers    kernel layers (seccomp, Landlock, namespaces, limits) and the probe that proves them
child     one program over one chunk of texts, in a sealed process of its own
worker    the process that forks children and watches them
"""

from __future__ import annotations


def words(text: str) -> list[str]:
    """The words of a block of text, for the long lists of names in these modules."""
    return text.split()
