"""LoRA adapters that the warehouse has on record: who may be asked beside the model itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from factory.errors import InputError

if TYPE_CHECKING:
    from factory.warehouse.file import Warehouse


@dataclass(frozen=True)
class Adapter:
    """One adapter.

    Attributes:
        adapter_no: Its number.
        key: Identity of what it learned from and how.
        name: What an engine is asked for: the pipeline's name and the first digits of its weights' SHA-256.
        prompt: Name of the prompt that it was trained on.
        demonstrations: Gold examples per label that the prompt showed.
        folder: `adapter_config.json` and `adapter_model.safetensors`.
    """

    adapter_no: int
    key: str
    name: str
    prompt: str
    demonstrations: int
    folder: Path

    @property
    def whole(self) -> bool:
        """Whether its files are there."""
        return all((self.folder / name).is_file() for name in ("adapter_config.json", "adapter_model.safetensors"))


def adapters(warehouse: Warehouse) -> list[Adapter]:
    """All adapters on record, the latest last."""
    root = warehouse.folder or Path()
    return [
        Adapter(number, key, name, prompt, shown, root / path)
        for number, key, name, prompt, shown, path in warehouse.query(
            "SELECT adapter_no, key, name, prompt, demonstrations, path FROM adapters ORDER BY adapter_no"
        )
    ]


def find_adapter(warehouse: Warehouse, name: str) -> Adapter:
    """The adapter of that name: as an engine knows it, or as the pipeline gave it (then the latest).

    Raises:
        InputError: There is none, or its files are gone.
    """
    aliases = dict(warehouse.query("SELECT adapter_no, alias FROM adapters"))
    known = adapters(warehouse)
    found = [one for one in known if name in (one.name, aliases[one.adapter_no])]
    if not found:
        there = ", ".join(one.name for one in known)
        raise InputError(
            f"there is no adapter {name!r}", fix=f"There are: {there}" if there else "Train one: add a step `tune`"
        )
    if not found[-1].whole:
        raise InputError("the adapter's files are gone", where=found[-1].folder, fix="Run `tune` again")
    return found[-1]
