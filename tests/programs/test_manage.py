# ruff: noqa: E501
"""What people do with programs, and Snorkel's labelling functions in and out."""

from __future__ import annotations

from pathlib import Path

import pytest

from factory.errors import InputError
from factory.programs import analysis, manage, stage, view
from factory.programs.snorkel import add_trusted, as_labeling_function
from factory.task import load_card, register
from factory.warehouse.file import Warehouse
from tests.programs.test_stage import CARD, TEXTS, add_texts, program
from tests.programs.test_stage import add_program as add_stored


@pytest.fixture
def warehouse() -> Warehouse:
    warehouse = Warehouse.memory()
    register(warehouse, load_card(CARD))
    add_texts(warehouse, TEXTS)
    return warehouse


def test_an_edit_is_a_new_version_and_costs_its_own_votes_alone(warehouse: Warehouse) -> None:
    first = manage.add_program(warehouse, program("win", "spam"), name="win")
    manage.add_program(warehouse, program("song", "ham"), name="song")
    assert stage.vote(warehouse).did["votes"] == 120
    edited = manage.edit_program(warehouse, first["program_no"], program("prize 3", "spam"))
    old = view.show_program(warehouse, first["program_no"])
    assert old["state"] == "superseded"
    result = stage.vote(warehouse)
    assert result.did["votes"] == warehouse.scalar("SELECT count(*) FROM votes WHERE program_no = 3")
    diff = view.diff_program(warehouse, edited["program_no"])
    assert "-WORDS" in diff["diff"]
    assert diff["votes_changed"] > 0
    assert [row["program_no"] for row in view.list_programs(warehouse)] == [2, 3]
    assert len(view.list_programs(warehouse, every=True)) == 3


def test_a_program_that_does_not_run_is_not_added(warehouse: Warehouse) -> None:
    with pytest.raises(InputError, match="may not be imported"):
        manage.add_program(warehouse, "import os\ndef label(text): return None", name="bad.py")
    with pytest.raises(InputError, match="speaks of all labels"):
        manage.add_program(warehouse, program("win", "spam"), name="x", target="spam")
    manage.add_program(warehouse, program("win", "spam"), name="x")
    with pytest.raises(InputError, match="this very source"):
        manage.add_program(warehouse, program("win", "spam"), name="y")
    with pytest.raises(InputError, match="no program 9"):
        view.show_program(warehouse, 9)


def test_rejecting_and_approving_are_kept_as_events(warehouse: Warehouse) -> None:
    number = manage.add_program(warehouse, program("win", "spam"), name="win")["program_no"]
    manage.reject_program(warehouse, number, reason="too broad")
    assert stage.vote(warehouse).did["programs"] == 0
    manage.approve_program(warehouse, number)
    assert stage.vote(warehouse).did["votes"] == 40
    events = view.show_program(warehouse, number)["events"]
    assert [(e["state"], e["reason"]) for e in events] == [
        ("accepted", None),
        ("rejected", "too broad"),
        ("accepted", None),
    ]


def test_a_trial_shows_votes_and_statuses(warehouse: Warehouse) -> None:
    number = manage.add_program(warehouse, program("win", "spam"), name="win")["program_no"]
    rows = view.test_program(warehouse, number, texts=["win", "x"])
    assert rows == [{"text": "win", "vote": "spam", "status": "ok"}, {"text": "x", "vote": None, "status": "abstain"}]


def test_the_analysis_reads_the_warehouse(warehouse: Warehouse) -> None:
    manage.add_program(warehouse, program("win", "spam"), name="win")
    manage.add_program(warehouse, program("win a", "ham"), name="wrong")
    stage.vote(warehouse)
    found = analysis.analyse(warehouse)
    assert found["rows"][0]["Coverage"] == pytest.approx(1 / 3)
    assert found["rows"][0]["Conflicts"] == pytest.approx(1 / 3)
    assert found["disagreements"][0]["texts"] == 40


def test_snorkel_functions_come_in_on_trust_and_go_out(warehouse: Warehouse) -> None:
    import pandas as pd
    from snorkel.labeling import PandasLFApplier, labeling_function

    @labeling_function()
    def mine(x: object) -> int:
        return 1 if "win" in x.text else -1  # type: ignore[attr-defined]

    with pytest.raises(InputError, match="outside the sandbox"):
        add_trusted(warehouse, [mine])
    added = add_trusted(warehouse, [mine], trust=True)
    assert added[0]["votes"] == 40
    assert stage.vote(warehouse).did["programs"] == 0
    frame = pd.DataFrame({"text": TEXTS[:12]})
    out = as_labeling_function(program("win", "spam"), ["ham", "spam"], name="ours")
    matrix = PandasLFApplier([mine, out]).apply(frame, progress_bar=False)
    assert (matrix[:, 0] == matrix[:, 1]).all()


RULES = """
rules:
  - {kind: word, value: win, label: spam}
  - {kind: contains, value: great, label: ham, weight: 2, unless: [win]}
"""


def test_rules_are_added_shown_edited_diffed_and_tested_like_any_program(warehouse: Warehouse) -> None:
    added = manage.add_program(warehouse, RULES, name="mine", kind="rules")
    assert (added["kind"], added["state"]) == ("rules", "accepted")
    with pytest.raises(InputError, match="this very source"):
        manage.add_program(warehouse, RULES.replace("weight: 2", "weight: 2.0"), name="again", kind="rules")
    shown = view.show_program(warehouse, added["program_no"])["source"]
    assert len(shown.splitlines()) == 4
    assert stage.vote(warehouse).did["votes"] == 120
    rows = view.test_program(warehouse, added["program_no"], texts=["Win!", "great", "a great win", "x"])
    assert [row["vote"] for row in rows] == ["spam", "ham", "spam", None]
    edited = manage.edit_program(warehouse, added["program_no"], shown.replace('"win", "label"', '"prize", "label"'))
    assert stage.vote(warehouse).did["votes"] == 120
    found = view.diff_program(warehouse, edited["program_no"])
    assert [line for line in found["diff"].splitlines() if line[:2] in ("- ", "+ ")] == [
        '-  {"kind": "word", "value": "win", "label": "spam"},',
        '+  {"kind": "word", "value": "prize", "label": "spam"},',
    ]
    assert found["votes_changed"] == 0
    with pytest.raises(InputError, match="rule 1: its label 'egg'"):
        manage.add_program(warehouse, RULES.replace("spam", "egg"), name="bad.yaml", kind="rules")


@pytest.mark.parametrize(
    ("name", "kind"),
    [("a.py", "python"), ("a.YAML", "rules"), ("a.yml", "rules"), ("a.json", "rules"), ("a.txt", None)],
)
def test_a_files_ending_says_what_it_holds(name: str, kind: str | None) -> None:
    if kind is None:
        with pytest.raises(InputError, match="cannot tell"):
            manage.kind_of_file(Path(name))
    else:
        assert manage.kind_of_file(Path(name)) == kind


FAILING = {
    "def label(text, meta):\n    return 'spam'": r"fails on 120 of 120 texts \(120 exception\), first on '.*': TypeError",
    "def label(x):\n    return 'spam' if 'win' in x.text else None": r"fails on 120 of 120 texts \(120 exception\)",
    "def label(text):\n    return 'win' in text": r"fails on 120 of 120 texts \(120 bad value\).*a value of type bool",
    "def label(text):\n    return ['spam']": r"120 bad value.*type list",
    "def label(text):\n    return 'spam', .9": r"120 bad value.*type tuple",
    "def label(text):\n    yield 'spam'": r"120 bad value.*type generator",
    "def label(text):\n    return 'Spam' if 'win' in text else None": r"40 bad value.*`Spam`, which is not a label; the label is `spam`",
    "def label(text):\n    return ' spam ' if 'win' in text else None": r"40 bad value.*the label is `spam`",
    "def label(text):\n    return 'spam' if 'win' in text else 'ABSTAIN'": r"80 bad value.*`ABSTAIN`, which is not a label",
    "def label(text):\n    return 'spam' if 'win' in text else ''": r"80 bad value",
    "def label(text):\n    return 'Spam' if 'zzzz' in text else ('ham' if 'song' in text else None)": r"in line 2 it returned the text `Spam`",
    "def label(text):\n    return 'spam' if text.split()[9] == 'site' else None": r"exception.*IndexError in line 2",
    "def label(text):\n    while 'win' in text:\n        pass": r"timeout",
    "def label(text):\n    return [0] * 10**9 and None": r"memory",
    "import re\ndef label(text):\n    return 'spam' if re.match(r'(a|aa)+$', 'a' * 40 + 'b') else None": r"timeout",
    "n = 0\ndef label(text):\n    global n\n    n += 1\n    return 'spam' if n % 2 else None": r"refused \(state\): line 3: `global`",
    "def label(text, seen=[]):\n    seen.append(1)\n    return 'spam' if len(seen) % 2 else None": "`label` changes",
    "seen = {}\ndef label(text):\n    seen[text] = seen.get(text, 0) + 1\n    return 'spam' if seen[text] > 1 else None": "`seen` changes",
    "import itertools\nN = itertools.count()\ndef label(text):\n    return 'spam' if next(N) % 2 else None": r"`N` holds an iterator",
    "N = (x for x in 'ab' * 999)\ndef label(text):\n    return 'spam' if next(N) == 'a' else None": r"`N` holds an iterator",
    "def make():\n    n = 0\n    def label(text):\n        nonlocal n\n        n += 1\n        return 'spam' if n % 2 else None\n    return label\nlabel = make()": "`label` changes",
    "from functools import lru_cache\n@lru_cache\ndef box():\n    return []\ndef label(text):\n    box().append(1)\n    return 'spam' if len(box()) % 2 else None": "another order",
    "class C:\n    seen = []\ndef label(text):\n    C.seen.append(1)\n    return 'spam' if len(C.seen) % 2 else None": "`C` changes",
    "seen = []\nadd = seen.append\ndef label(text):\n    add(1)\n    return 'spam' if len(seen) % 2 else None": "`seen` changes",
    "T = [0]\ndef label(text):\n    T[0] = 1 - T[0]\n    return 'spam' if T[0] else None": "`T` changes",
    "from collections import deque\nD = deque(maxlen=2)\ndef label(text):\n    D.append(text)\n    return 'spam' if len(D) > 1 else None": "`D` changes",
    "from difflib import SequenceMatcher\nM = SequenceMatcher(None, '', '')\ndef label(text):\n    old = M.ratio()\n    M.set_seqs(text, 'win')\n    return 'spam' if old > .1 else None": "`M` changes",
    "from difflib import SequenceMatcher\nM = SequenceMatcher(None, 'a', 'win')\ndef label(text):\n    if 'song' in text:\n        M.get_matching_blocks().append(1)\n    return 'spam' if M.ratio() > .1 else None": "`M` changes",
    "from collections import ChainMap\nM = ChainMap({})\ndef label(text):\n    if 'song' in text:\n        M['n'] = 1\n    return 'spam' if 'n' in M else None": "`M` changes",
    "from enum import Enum\nclass E(Enum):\n    A = [0]\ndef label(text):\n    if 'song' in text:\n        E.A.value[0] = 1\n    return 'spam' if E.A.value[0] else None": "`E` changes",
    "from enum import Enum\nclass E(Enum):\n    A = [0]\nA = E.A\ndel E\ndef label(text):\n    if 'song' in text:\n        A.value[0] = 1\n    return 'spam' if A.value[0] else None": "`A` changes",
    "import re\nS = re.compile('a').scanner('a' * 99)\ndef label(text):\n    return 'spam' if S.search() else None": r"refused \(attribute\): line 2: .*scanner",
    "from functools import lru_cache\n@lru_cache\ndef f(t):\n    return 1\ndef label(text):\n    f('song' in text)\n    return 'spam' if f.cache_info().currsize > 1 else None": r"refused \(attribute\): line 7: .*cache_info",
    "from functools import lru_cache\n@lru_cache\ndef f(t):\n    return 1\ndef label(text):\n    f.cache_clear()\n    return 'spam'": r"refused \(attribute\): line 6: .*cache_clear",
    "def label(text):\n    n = 0\n    for i in range(100_000):\n        n += 1\n    return 'spam' if 'win' in text else None": "microseconds for a text",
}  # fmt: skip


@pytest.mark.parametrize("source", FAILING)
def test_a_program_that_fails_keeps_state_or_is_slow_is_not_added_and_the_reason_is_told(
    warehouse: Warehouse, source: str
) -> None:
    with pytest.raises(InputError, match=FAILING[source]):
        manage.add_program(warehouse, source, name="mine.py")
    assert warehouse.scalar("SELECT count(*) FROM programs") == 0


HONEST = [
    "from functools import lru_cache\n@lru_cache(maxsize=None)\ndef weight(word):\n    return len(word)\ndef label(text):\n    return 'ham' if sum(map(weight, text.split())) > 16 else None",
    "def label(text):\n    total = 0\n    def add(n):\n        nonlocal total\n        total += n\n    for w in text.split():\n        add(len(w) > 4)\n    return 'spam' if total > 1 else None",
    "import re\nP = {'spam': [re.compile('win'), re.compile('prize')]}\nQ = sorted(P.items())\ndef label(text):\n    return next((n for n, ps in Q if any(p.search(text) for p in ps)), None)",
    "from enum import Enum\nclass L(str, Enum):\n    S = 'spam'\ndef label(text):\n    return L.S if 'win' in text else None",
    "from enum import Enum\nclass L(Enum):\n    S = ('spam', ['win', 'prize'])\n    H = ('ham', ['song'])\ndef label(text):\n    return next((l.value[0] for l in L if any(w in text for w in l.value[1])), None)",
    "from collections import ChainMap\nM = ChainMap({'win': 'spam'}, {'song': 'ham'})\ndef label(text):\n    return next((M[w] for w in text.split() if w in M), None)",
    "from difflib import SequenceMatcher\ndef label(text):\n    return 'spam' if SequenceMatcher(None, text, 'win a prize').ratio() > .5 else None",
    "def make(words):\n    return lambda t: any(w in t for w in words)\nhas = make(['win'])\ndef label(text):\n    return 'spam' if has(text) else None",
    "def label(text):\n    return 'spam' if text.split()[-1] != '7' and 'win' in text else text.split()[7] if text.endswith(' 7') else None",
]  # fmt: skip


@pytest.mark.parametrize("source", HONEST)
def test_ordinary_caches_closures_and_tables_are_not_state(warehouse: Warehouse, source: str) -> None:
    assert manage.add_program(warehouse, source, name="mine.py")["state"] == "accepted"


def test_a_program_that_never_votes_is_added_with_a_remark(warehouse: Warehouse) -> None:
    added = manage.add_program(warehouse, "def label(text):\n    return None", name="never.py")
    assert "None for every one" in added["remark"]


def test_the_list_says_how_many_votes_each_program_lost(warehouse: Warehouse) -> None:
    add_stored(warehouse, 1, "def label(text):\n    return int(text[-1]) // (7 - int(text[-1]))")
    add_stored(warehouse, 2, program("win", "spam"))
    assert [row["failures"] for row in view.list_programs(warehouse)] == [None, None]
    says = stage.vote(warehouse).says
    counts = warehouse.query("SELECT status, count(*) FROM vote_failures GROUP BY 1")
    assert [row["failures"] for row in view.list_programs(warehouse)] == [sum(n for _, n in counts), 0]
    assert any(line.startswith("program 1 (p1) lost votes on 120 texts: ") and "12 exception" in line for line in says)
    assert not any("program 2" in line for line in says)


def test_both_forms_go_out_to_snorkel_and_come_back_as_what_they_are(warehouse: Warehouse) -> None:
    import pandas as pd
    from snorkel.labeling import PandasLFApplier

    labels = ["ham", "spam"]
    out = [
        as_labeling_function(program("win", "spam"), labels, name="code"),
        as_labeling_function(RULES, labels, name="words", kind="rules"),
    ]
    frame = pd.DataFrame({"text": TEXTS[:12]})
    matrix = PandasLFApplier(out).apply(frame, progress_bar=False)
    added = add_trusted(warehouse, out)
    assert [(each["name"], each["kind"]) for each in added] == [("code", "python"), ("words", "rules")]
    assert stage.vote(warehouse).did["votes"] == 160
    _, names, _, votes = analysis.label_matrix(warehouse, "train")
    assert names == ["code", "words"]
    assert (votes[:12] == matrix).all()
