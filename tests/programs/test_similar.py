"""Near-copies of programs: told by the words that stand together, in time linear in the sources."""

from __future__ import annotations

import time

from factory.programs.author.similar import near_copy, plain_source
from factory.resources import shipped
from tests.programs.recorded import recorded_programs

SOURCE = """import re

WORDS = re.compile(r"\\\\b(?:refund|charged|invoice|payment|bill|card|fee|price|cost|bank|double|twice)\\\\b", re.I)


def label(text):
    found = WORDS.findall(text)
    if len(found) > 1:
        return "billing"
    return None
"""


def test_a_copy_with_other_comments_and_a_word_changed_is_near() -> None:
    copy = "# my own\n" + SOURCE.replace("invoice", "invoices").replace("found = ", "found =   ")
    assert near_copy(copy, [plain_source("def label(text):\n    return None\n"), plain_source(SOURCE)]) == 1


def test_another_vocabulary_in_the_same_frame_is_no_copy() -> None:
    words = "parcel|courier|late|box|tracking|shipped|arrive|doorstep|van|post|depot|missing"
    other = SOURCE.replace("refund|charged|invoice|payment|bill|card|fee|price|cost|bank|double|twice", words)
    assert near_copy(other, [plain_source(SOURCE)]) is None


def test_no_recorded_program_is_a_copy_of_another() -> None:
    known: dict[str, list[str]] = {}
    for pipeline, source in recorded_programs(shipped("pipelines")):
        others = known.setdefault(pipeline, [])
        assert near_copy(source, others) is None
        others.append(plain_source(source))


def test_sources_of_any_length_are_compared_at_once() -> None:
    one, two = (" ".join(f"{letter}{number % 97}" for number in range(40_000)) for letter in "ab")
    began = time.process_time()
    assert near_copy(one, [two, one]) == 1
    assert time.process_time() - began < 2
