"""`author` and `vote`: read the warehouse, call the cores, write."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from factory.programs.author.fill import author_programs
from factory.programs.vote import vote_texts
from factory.result import Progress, StageResult, no_progress

if TYPE_CHECKING:
    from factory.llm import Engine
    from factory.warehouse.file import Warehouse


def author(
    warehouse: Warehouse,
    engine: Engine,
    *,
    programs: int = 12,
    candidates: int | None = None,
    variants: int = 4,
    examples: int = 8,
    seeds: int = 0,
    knowledge: bool = False,
    knowledge_kind: str = "keywords",
    repairs: int = 2,
    probe: int = 1000,
    form: Literal["program", "rules"] = "program",
    strict: bool = False,
    budget: Any = None,
    progress: Progress = no_progress,
) -> StageResult:
    """Have the model write programs until so many are accepted.

    Args:
        warehouse: Needs a task and the texts of the split `train`.
        engine: Whom to ask.
        programs: Accepted programs wanted.
        candidates: Most programs asked for; twice `programs` by default.
        variants: Variants of each approach, 1 to 4.
        examples: Unlabelled texts shown in each prompt.
        seeds: Gold seeds shown for each label, from the split `seed`; 0 shows none.
        knowledge: Whether to ask first what an expert knows, and show that.
        knowledge_kind: `heuristics`, `keywords`, `descriptions` or `examples`.
        repairs: How often an answer that fails its checks may be repaired.
        probe: Texts of `train` that every program is tried on.
        form: `program` asks for Python; `rules` for a list of simple rules, which we turn into Python (for weak models).
        strict: Refuse to run without every layer of the sandbox.
        budget: Most to spend.
        progress: Told how far it is.

    Raises:
        InputError: No task, no training texts, or an unknown kind of knowledge.
        SandboxError: No sandbox, or `strict` and a layer is missing.
        Unanswered: Requests have no answer yet, through nothing that the model said. What came is stored; run again.
    """
    config = {
        "programs": programs,
        "candidates": candidates if candidates is not None else 2 * programs,
        "variants": variants,
        "examples": examples,
        "seeds": seeds,
        "knowledge": knowledge_kind if knowledge else None,
        "repairs": repairs,
        "probe": probe,
        "form": form,
    }
    from factory.llm import Asker

    return author_programs(Asker(warehouse, engine, "author", budget, progress), config, strict=strict)


def vote(
    warehouse: Warehouse,
    *,
    block: int = 20_000,
    strict: bool = False,
    ray: bool = False,
    progress: Progress = no_progress,
) -> StageResult:
    """Run every accepted program over every text that lacks its vote.

    A new program costs its column, new texts cost their rows, a deleted vote costs its block; nothing else is computed again.

    Args:
        warehouse: Needs a task, texts and accepted programs.
        block: Texts in one transaction.
        strict: Refuse to run without every layer of the sandbox.
        ray: Run the blocks on Ray: on the cluster that `RAY_ADDRESS` names, or on this machine's processors. This process alone
            reads and writes the warehouse, and the votes are the same.
        progress: Told how far it is.

    Raises:
        SandboxError: No sandbox, or `strict` and a layer is missing, here or in a worker of Ray's.
        ClusterError: Ray is asked for and not installed, cannot be reached, or lost a worker for good.
    """
    return vote_texts(warehouse, block=block, strict=strict, ray=ray, progress=progress)
