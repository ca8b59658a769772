"""What a program may use: a set of builtins, and facades that hold named public functions of some modules, never the modules.

A real module is a way to every other (`re.enum.sys.modules`); a facade holds what is listed here and nothing else.
"""

from __future__ import annotations

import builtins
import collections
import decimal
import enum
import fractions
import importlib
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from . import words

_BUILTINS = words(
    """
    abs all any ascii bin bool bytearray bytes callable chr complex dict divmod enumerate filter float format
    frozenset hash hex int isinstance issubclass iter len list map max min next object oct ord pow range repr
    reversed round set slice sorted str sum tuple zip ArithmeticError AssertionError AttributeError Exception
    ImportError IndexError KeyError LookupError NameError NotImplementedError OverflowError RecursionError
    RuntimeError StopIteration TypeError UnicodeDecodeError UnicodeEncodeError UnicodeError ValueError
    ZeroDivisionError NotImplemented Ellipsis
    """
)

BUILTIN_NAMES = frozenset([*_BUILTINS, "print", "type", "hasattr", "__name__"])

_MODULES = {
    "re": """compile search match fullmatch findall finditer sub subn split escape error Pattern Match I IGNORECASE M MULTILINE
        S DOTALL X VERBOSE A ASCII U UNICODE NOFLAG RegexFlag""",
    "string": """ascii_letters ascii_lowercase ascii_uppercase digits hexdigits octdigits punctuation printable
        whitespace capwords""",
    "math": """ceil floor sqrt log log2 log10 log1p exp expm1 pow fabs fsum gcd lcm hypot sin cos tan asin acos atan atan2 tanh
        sinh cosh copysign degrees radians isclose isfinite isinf isnan isqrt trunc comb perm prod dist fmod modf frexp ldexp erf
        erfc factorial pi e tau inf nan""",
    "collections": "Counter defaultdict OrderedDict deque namedtuple ChainMap",
    "collections.abc": "Callable Iterable Iterator Mapping Sequence Set MutableMapping MutableSequence Collection Hashable Sized",
    "itertools": """accumulate chain combinations combinations_with_replacement compress count cycle dropwhile filterfalse groupby
        islice pairwise permutations product repeat starmap takewhile tee zip_longest""",
    "functools": "reduce partial lru_cache cache cmp_to_key",
    "unicodedata": """bidirectional category combining decimal decomposition digit east_asian_width is_normalized lookup mirrored
        name normalize numeric""",
    "statistics": "mean fmean median median_low median_high mode multimode stdev pstdev variance pvariance quantiles",
    "html": "escape unescape",
    "json": "loads dumps JSONDecodeError",
    "bisect": "bisect bisect_left bisect_right insort insort_left insort_right",
    "heapq": "heapify heappop heappush heappushpop heapreplace merge nlargest nsmallest",
    "operator": """add sub mul truediv floordiv mod neg pos abs eq ne lt le gt ge and_ or_ xor not_ truth is_ is_not contains
        countOf indexOf itemgetter concat""",
    "difflib": "SequenceMatcher get_close_matches",
    "textwrap": "dedent fill indent shorten wrap",
    "copy": "copy deepcopy",
    "enum": "Enum IntEnum auto unique",
    "decimal": "Decimal InvalidOperation ROUND_HALF_UP ROUND_DOWN",
    "fractions": "Fraction",
    "typing": """Any Callable Dict FrozenSet Final Iterable Iterator List Literal Mapping Match Optional Pattern
        Sequence Set Tuple Type TypeVar Union cast""",
    "urllib.parse": "urlparse urlsplit parse_qs parse_qsl quote unquote quote_plus unquote_plus urljoin",
}
_PACKAGES = {"urllib": ("parse",)}
"""Modules that offer their submodules alone."""

MODULES: Mapping[str, frozenset[str]] = MappingProxyType(
    {name: frozenset(members.split()) for name, members in _MODULES.items()}
    | {name: frozenset(children) for name, children in _PACKAGES.items()}
)
"""Module name to the members a program may use."""


class Facade:
    """A frozen namespace with the listed members of one module."""

    def __init__(self, name: str, members: Mapping[str, Any]) -> None:
        self.__dict__.update(members)
        self.__dict__["_facade"] = name

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError("a module cannot be changed")

    __delattr__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<module {self._facade}>"  # type: ignore[attr-defined]


def build() -> dict[str, Any]:
    """Import every module once and build the facades.

    Returns:
        The builtins for a program's globals, with an `__import__` that knows the facades alone.
    """
    facades: dict[str, Facade] = {}
    for name, members in MODULES.items():
        if name in _PACKAGES:
            continue
        module = importlib.import_module(name)
        found = {member: getattr(module, member) for member in members if hasattr(module, member)}
        facades[name] = Facade(name, found | ({"Enum": _Enum, "IntEnum": _IntEnum} if name == "enum" else {}))
    for name, children in _PACKAGES.items():
        facades[name] = Facade(name, {child: facades[f"{name}.{child}"] for child in children})
    object.__setattr__(facades["collections"], "abc", facades["collections.abc"])
    names = {name: getattr(builtins, name) for name in _BUILTINS}
    names |= {"print": _print, "type": _type_of, "hasattr": _hasattr, "__import__": _importer(facades)}
    names["__build_class__"] = builtins.__build_class__
    return names


def _print(*values: Any, **options: Any) -> None:
    """Printing is allowed and shows nothing."""


_PLAIN_TYPES = (
    type(None), bool, int, float, complex, str, bytes, bytearray, list, tuple, dict, set, frozenset, range, slice, re.Pattern,
    re.Match, collections.deque, Exception, enum.Enum, decimal.Decimal, fractions.Fraction,
)  # fmt: skip


def _type_of(value: Any, *rest: Any) -> type:
    """The type of a plain value. That of a class or a function would make classes with any methods, and so read any attribute."""
    found = type(value)
    if rest or not issubclass(found, _PLAIN_TYPES):
        raise TypeError("type() takes one plain value here")
    return found


class _ByValue(enum.EnumType):
    """The metaclass of `Enum` here: a call finds a member, and never makes a class out of names given at run time."""

    def __call__(cls, value: Any) -> Any:  # type: ignore[override]
        return super().__call__(value)


class _Enum(enum.Enum, metaclass=_ByValue):
    pass


class _IntEnum(enum.IntEnum, metaclass=_ByValue):
    pass


def _hasattr(value: Any, name: str) -> bool:
    return type(name) is str and not name.startswith("_") and hasattr(value, name)


def _importer(facades: Mapping[str, Facade]) -> Callable[..., Any]:
    """An `__import__` that knows the facades alone."""

    def load(name: str, globals: Any = None, locals: Any = None, fromlist: Any = (), level: int = 0) -> Any:
        if level or name not in facades:
            raise ImportError("this module may not be imported")
        return facades[name] if fromlist else facades[name.partition(".")[0]]

    return load
