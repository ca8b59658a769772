"""What an export needs to be run, beside Python: the oldest versions that its tests were run with."""

from __future__ import annotations

_GRAPHS = {"numpy": "1.26", "onnxruntime": "1.18", "tokenizers": "0.15"}
_ARRAYS = {"numpy": "1.26", "safetensors": "0.4"}

NEEDED = {"transformer": _GRAPHS, "hybrid": _GRAPHS, "static": {**_GRAPHS, "safetensors": "0.4"}, "linear": _ARRAYS}
"""Kind of export -> package -> oldest version."""


def requirements_of(kind: str) -> str:
    """The requirements of an export as pip reads them."""
    return "".join(f"{name}>={oldest}\n" for name, oldest in NEEDED[kind].items())
