"""Label programs: authored by a model, checked, run in a sandbox, applied to every text, analysed.

sandbox/     the sealed side: static policy, facades, kernel layers, worker and child (standard library alone)
pool         worker processes, and `run_programs`
author       the authoring loop as a pure core: plan, ask, check, probe, repair, accept
similar      functional hashes and near-copies
blocks       blocks of texts and the programs that vote on them
voting       the stage `vote` against the warehouse, block by block
spread       blocks run on Ray
analysis     coverage, overlaps, conflicts, accuracy, correlation
lifecycle    list, show, add, edit, approve, reject, diff, test
interop      Snorkel labelling functions, in and out
stage        `author` and `vote`: read the warehouse, call the core, write
"""

from __future__ import annotations

from factory.programs.sandbox.host.pool import Pool, run_programs
from factory.programs.sandbox.host.process import Layers
from factory.programs.sandbox.host.result import ProgramRun

__all__ = ["Layers", "Pool", "ProgramRun", "run_programs"]
