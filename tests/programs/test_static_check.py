# ruff: noqa: E501
"""The static check holds alone, as far as it can: where the kernel gives nothing, no way through it is known here.

Each source tries to read an attribute that it computes at run time (which reaches everything), and returns `through` if it could.
"""

from __future__ import annotations

import pytest

from factory.programs.sandbox.host.pool import Pool

LABELS = ["held", "through"]
EVERY_LAYER = ("unprivileged", "no_new_privs", "namespaces", "limits", "landlock", "seccomp")
READ = """
    match object:
        case {cls}(found):
            return "through"
    return None
"""

TRIES = {
    "metaclass by type": 'T = type(int)\nMeta = T("Meta", (T,), {"__instance" + "check__": lambda c, o: True})\n'
    'M = Meta("M", (), {"__match_" + "args__": ("__subclasses__",)})\ndef label(text):' + READ.format(cls="M"),
    "type of a class of its own": "class A:\n    x = 1\nT = type(A)\ndef label(text):\n    return 'through' if T('B', (), {}) else None",
    "type of an enum class": "from enum import Enum\nclass A(Enum):\n    X = 1\nT = type(A)\ndef label(text):\n    return 'through'",
    "type of a named tuple's class": "from collections import namedtuple\nT = type(namedtuple('A', 'x'))\ndef label(text):\n    return 'through'",
    "type of a function": "F = type(lambda: 0)\ndef label(text):\n    return 'through' if F else None",
    "type of a built-in function": "F = type(len)\ndef label(text):\n    return 'through' if F else None",
    "type of a module": "import re\nF = type(re)\ndef label(text):\n    return 'through' if F else None",
    "type of a generator": "F = type(x for x in 'a')\ndef label(text):\n    return 'through' if F else None",
    "three arguments": "T = type\ndef label(text):\n    return 'through' if T('A', (), {}) else None",
    "keyword arguments": "def label(text):\n    return 'through' if type(*('A', (), {}), **{}) else None",
    "through map": "def label(text):\n    return 'through' if list(map(type, [int])) else None",
    "enum by a call": 'from enum import Enum\nE = Enum("E", {"__match_" + "args__": ("__subclasses__",)})\ndef label(text):' + READ.format(cls="E"),
    "enum by another name": 'import enum as e\nX = e.Enum\nE = X("E", {"__match_" + "args__": ("a",)})\ndef label(text):\n    return "through" if E else None',
    "enum by a subclass": 'from enum import Enum\nclass B(Enum):\n    pass\nE = B("E", {"__match_" + "args__": ("a",)})\ndef label(text):\n    return "through" if E else None',
    "enum by keywords": 'from enum import IntEnum\nE = IntEnum(value="E", names={"__match_" + "args__": 1})\ndef label(text):\n    return "through" if E else None',
    "a base under another name": "from collections import Counter as object\nclass A(object):\n    x = 1\ndef label(text):\n    return 'through'",
    "a base of an attribute": "import re\nclass A(re.Enum):\n    x = 1\ndef label(text):\n    return 'through'",
    "a base that was assigned": "str = type(type)\nclass A(str):\n    x = 1\ndef label(text):\n    return 'through'",
    "a base that is a parameter": "def f(int):\n    class A(int):\n        x = 1\n    return A\ndef label(text):\n    return 'through' if f(Exception) else None",
    "a metaclass": "class A(metaclass=type):\n    x = 1\ndef label(text):\n    return 'through'",
    "a lambda in a class": "class A(str):\n    lower = lambda self: 'x'\ndef label(text):\n    return 'through'",
    "a lambda in a table in a class": "class A:\n    table = {'a': lambda self: 1}\ndef label(text):\n    return 'through'",
    "a function in a class": "def f(self):\n    return 1\nclass A(str):\n    lower = f\ndef label(text):\n    return 'through'",
    "a hidden name in a class": "from enum import Enum\nclass A(Enum):\n    _missing_ = 1\ndef label(text):\n    return 'through'",
    "match arguments in a class": "class A:\n    __match_args__ = ('x',)\ndef label(text):\n    return 'through'",
    "match arguments by unpacking": "class A:\n    [__match_args__] = [('x',)]\ndef label(text):\n    return 'through'",
    "a class pattern with a part": "from collections import namedtuple\nA = namedtuple('A', 'x')\ndef label(text):\n    match A(1):\n        case A(x):\n            return 'through'",
    "a builtin under another name": "A = int\ndef f(str):\n    match str:\n        case str(x):\n            return 'through'\ndef label(text):\n    return f(text)",
    "a class pattern with a keyword": "def label(text):\n    match text:\n        case str(__class__=c):\n            return 'through'",
    "a class pattern of an attribute": "import re\ndef label(text):\n    match text:\n        case re.Pattern(x):\n            return 'through'",
    "format by a name": "F = str.format\ndef label(text):\n    return 'through' if F('{0.__class__}', text) else None",
    "format of a computed text": "def label(text):\n    return 'through' if ('{0.' + '__class__}').format(text) else None",
    "format through a mapping": "def label(text):\n    return 'through' if '{x.__class__}'.format_map({'x': 1}) else None",
    "format in a format": "def label(text):\n    return 'through' if '{0:{1.__class__}}'.format(text, 1) else None",
    "an attribute in full width": "def label(text):\n    return 'through' if text.＿class＿ else None",
    "a name in full width": "def label(text):\n    return 'through' if ＿＿import＿＿('os') else None",
    "the object of an error": "def label(text):\n    try:\n        return text.nothing\n    except AttributeError as e:\n        return 'through' if e.obj else None",
    "a traceback": "def label(text):\n    try:\n        return 1 // 0\n    except ZeroDivisionError as e:\n        return 'through' if e.with_traceback else None",
    "a generator's frame": "g = lambda: (x for x in 'a')\ndef label(text):\n    return 'through' if g().gi_frame else None",
    "the order of classes": "def label(text):\n    return 'through' if int.mro() else None",
    "the order of an alias's classes": "from typing import Type\ndef label(text):\n    return 'through' if Type.mro() else None",
    "an alias called": "from typing import Type\ndef label(text):\n    return 'through' if Type('A', (), {}) else None",
    "builtins": "def label(text):\n    return 'through' if __builtins__ else None",
    "the class builder": "def label(text):\n    return 'through' if __build_class__(lambda: 0, 'A') else None",
    "an import in a function": "def label(text):\n    import re.enum\n    return 'through'",
    "a star import": "from re import *\ndef label(text):\n    return 'through'",
    "a member that is a module": "from re import enum\ndef label(text):\n    return 'through'",
    "type parameters": "def label[T: __import__('os')](text):\n    return 'through'",
    "a changed attribute": "import re\nre.compile = 1\ndef label(text):\n    return 'through'",
    "a deleted attribute": "import re\ndel re.compile\ndef label(text):\n    return 'through'",
    "an item of a module": "import re\ndef label(text):\n    re['x'] = 1\n    return 'through'",
    "an attribute as a loop's variable": "import re\ndef label(text):\n    for re.x in 'a':\n        pass\n    return 'through'",
    "the arguments of a partial": "from functools import partial\ndef label(text):\n    return 'through' if partial(int).__reduce__() else None",
    "has, with a name that lies": "class S(str):\n    x = 1\ndef label(text):\n    return 'through' if hasattr(text, S('__class__')) else None",
    "an exception group": "def label(text):\n    try:\n        raise ExceptionGroup('a', [ValueError()])\n    except* ValueError:\n        return 'through'",
    "a decorator": "@print\ndef label(text):\n    return 'through'",
}  # fmt: skip


def test_no_known_way_gets_through_where_the_kernel_gives_nothing() -> None:
    with Pool(2, refuse=EVERY_LAYER) as pool:
        run = pool.run(list(TRIES.values()), ["a text", "another"], LABELS)
    got = [name for at, name in enumerate(TRIES) if (run.votes[:, at] == 1).any()]
    assert got == []


@pytest.mark.parametrize(
    "source",
    [
        "def label(text):\n    return 'held' if type(text) is str and type(3.5) == float and type({}) in (dict, list) else None",
        "from collections import Counter\ndef label(text):\n    return 'held' if type(Counter(text)) is Counter else None",
        "def label(text):\n    match text.split():\n        case [str(x), *_]:\n            return 'held'",
        "from enum import Enum\nclass L(str, Enum):\n    A = 'held'\ndef label(text):\n    return L.A",
        "import enum\nclass L(enum.IntEnum):\n    A = 0\n    B = 1\ndef label(text):\n    return L(0)",
        "from enum import Enum, auto\nclass L(Enum):\n    held = auto()\ndef label(text):\n    return L['held'].name",
        "import re\nclass C:\n    CUES = {'a': re.compile('a')}\n    N: int = 3\ndef label(text):\n    return 'held' if C.CUES['a'].search(text) else 'held'",
    ],
)  # fmt: skip
def test_what_honest_programs_do_with_types_classes_and_patterns_still_runs(source: str) -> None:
    with Pool(1) as pool:
        run = pool.run([source], ["a text"], LABELS)
    assert run.refusals == {}
    assert run.votes.tolist() == [[0]]
