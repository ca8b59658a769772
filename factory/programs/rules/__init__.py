"""Rules: the second form of program, as data. Nothing of a rule is ever run as code, and every engine is linear in the text.

lists     what a list of rules is, and how it is kept and shown
read      lists from answers and files, checked
folding   how texts and values are brought to one form, and where a word ends
patterns  what RE2 takes
engine    all lists over a block of texts in one pass
words     the words of a text that a vote was given for
"""

from __future__ import annotations

from factory.programs.rules.engine import RuleVoter, rule_votes
from factory.programs.rules.lists import Cue, Rule, RuleList
from factory.programs.rules.read import RulesRefused, in_words, read_rules, usable_rules
from factory.programs.rules.words import words_behind

__all__ = [
    "Cue", "Rule", "RuleList", "RuleVoter", "RulesRefused", "in_words", "read_rules", "rule_votes", "usable_rules",
    "words_behind",
]  # fmt: skip
