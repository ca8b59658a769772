"""Packages that are called like the verb they implement: `factory.denoise(warehouse)` beside `factory.denoise.models`."""

from __future__ import annotations

import importlib
import inspect
import sys
from types import ModuleType
from typing import Any


class CallablePackage(ModuleType):
    """A package that stands for one of its functions, imported when it is first called or looked at."""

    _verb: tuple[str, str]

    @property
    def __wrapped__(self) -> Any:
        module, name = self._verb
        return getattr(importlib.import_module(module), name)

    @property
    def __signature__(self) -> inspect.Signature:
        return inspect.signature(self.__wrapped__)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.__wrapped__(*args, **kwargs)


def make_callable(package: str, module: str, name: str) -> None:
    """Let a package stand for a function of the same name.

    Importing `factory.denoise.models` binds `factory.denoise` to the package, whatever `factory` exported under that name before.

    Args:
        package: The package's `__name__`.
        module: Where the function is.
        name: Its name there.
    """
    found = sys.modules[package]
    found.__class__ = CallablePackage
    found.__dict__["_verb"] = (module, name)
