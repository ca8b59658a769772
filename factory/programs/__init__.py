"""Label programs of two forms: Python functions, run in a sandbox, and lists of rules, matched in this process.

author/      the model writes and repairs them: plan, prompts, answers, acceptance
rules/       what a list of rules is, and how it is matched
sandbox/     host/ (worker processes as we see them) and sealed/ (what runs in them: the standard library alone)
trial        a program tried on texts before it may vote
blocks       blocks of texts, accepted programs, and one run of both forms
vote         the stage `vote` against the warehouse, block by block
view         list, show, diff, test           manage   add, edit, approve, reject
analysis     coverage, overlaps, conflicts, accuracy, correlation
snorkel      Snorkel's labelling functions, in and out
stage        `author` and `vote`: the parameters, and the calls
"""

from __future__ import annotations

from factory.programs.sandbox.host.pool import Pool, run_programs
from factory.programs.sandbox.host.process import Layers
from factory.programs.sandbox.host.result import ProgramRun

__all__ = ["Layers", "Pool", "ProgramRun", "run_programs"]
