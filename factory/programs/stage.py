"""`author` and `vote`: read the warehouse, call the cores, write."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from factory.encoders.settings import Named
from factory.labels.candidates import is_large
from factory.params import Call, Params, stage
from factory.programs.author.fill import author_programs
from factory.programs.vote import vote_texts
from factory.result import StageResult
from factory.task import current_card

if TYPE_CHECKING:
    from factory.warehouse.file import Warehouse

STRICT = (
    "Refuse to run Python without every layer of the sandbox. Off: a process with the other layers still holds, and the run names"
    " the layer that is missing."
)
SANDBOX = "`process` lets Python run where the system has no kernel layers (not Linux), in a process of its own; rules need none."


SMALL = {"form": "rules", "repairs": 0}
"""What a small model is asked for unless it is said: of five lists that it repaired, none was better."""


class AuthorParams(Params):
    """The parameters of `author`."""

    programs: int = Field(12, ge=1, description="Accepted programs wanted. A dozen covers most texts of a few labels.")
    candidates: int | None = Field(None, ge=1, description="Most programs asked for; twice `programs` by default, since some"
        " are refused or vote as others do.")  # fmt: skip
    variants: int = Field(4, ge=1, le=4, description="Variants of each approach, 1 to 4. All four by default: programs that"
        " err alike are worth less.")  # fmt: skip
    examples: int = Field(8, ge=0, description="Unlabelled texts shown in each prompt: enough to show how people write, few"
        " enough to stay cheap.")  # fmt: skip
    seeds: int = Field(0, ge=0, description="Gold seeds shown for each label, from the split `seed`. None by default: the"
        " line must work without gold.")  # fmt: skip
    knowledge: bool = Field(False, description="Whether to ask first what an expert knows, and show that. Off: it costs"
        " requests, and the approaches differ without it.")  # fmt: skip
    knowledge_kind: Literal["heuristics", "keywords", "descriptions", "examples"] = Field("keywords", description="What the"
        " expert is asked for. Keywords are what programs can use directly.")  # fmt: skip
    repairs: int = Field(2, ge=0, description="How often an answer that fails its checks may be repaired; what two repairs do"
        " not mend, more do not. With the engine's `profile: small` it is 0 unless said: such models do not mend.")  # fmt: skip
    probe: int = Field(1000, ge=1, description="Texts of `train` that every program is tried on: enough to see a share of 1%"
        " of the texts.")  # fmt: skip
    form: Literal["python", "rules", "both"] = Field("python", description="`python` asks for functions, which can say"
        " anything and run in the sandbox; `rules` for lists of words and patterns with weights, which people can read and"
        " edit, and which run faster and on any system; `both` takes turns. With the engine's `profile: small` it is `rules`"
        " unless it is said here.")  # fmt: skip
    varied: bool = Field(True, description="Every program has example texts of its own, and no approach comes twice with the"
        " same evidence while others are left. False asks as the ready pipelines were recorded.")  # fmt: skip
    labels: list[str] | None = Field(None, min_length=1, description="Only programs that speak of these labels"
        " alone; programs for all and for each by default.")  # fmt: skip
    show: Literal["any", "conflicts"] = Field("any", description="Which texts the prompts show: `conflicts` shows those on"
        " which accepted programs disagree, as far as there are any. A first round has none.")  # fmt: skip
    encoder: Named = Field("auto", description="Whose embeddings tell which labels are near one another, where the card has"
        " more than twenty: programs then speak of groups of such labels, and their prompts show no others than those nearest"
        " to the group. Name one where answers are to be replayed elsewhere.")  # fmt: skip
    strict: bool = Field(False, description=STRICT)
    sandbox: Literal["kernel", "process"] = Field("kernel", description=SANDBOX)


class VoteParams(Params):
    """The parameters of `vote`."""

    block: int = Field(20_000, ge=1, description="Texts in one transaction: a kill costs one block, and a block fits in"
        " memory with long texts.")  # fmt: skip
    strict: bool = Field(False, description=STRICT)
    sandbox: Literal["kernel", "process"] = Field("kernel", description=SANDBOX)
    ray: bool = Field(False, description="Run the blocks on Ray: on the cluster that `RAY_ADDRESS` names, or on this"
        " machine's processors. Off: one machine is enough for some ten million texts. This process alone reads and writes"
        " the warehouse either way.")  # fmt: skip

    def extras(self) -> dict[str, str]:
        return {"ray": "`vote: {ray: true}`"} if self.ray else {}


@stage("author", AuthorParams, asks=True)
def author(warehouse: Warehouse, params: AuthorParams, call: Call) -> StageResult:
    """Have the model write programs until so many are accepted; asked for more of the same, it goes on from those there are.

    Needs a task and the texts of the split `train`.

    Raises:
        InputError: No task, or no training texts.
        SandboxError: Python cannot run on this system, or `strict` and a layer is missing.
        Unanswered: Requests have no answer yet, through nothing that the model said. What came is stored; run again.
    """
    small = call.engine.profile == "small"
    config = {
        **params.model_dump(exclude={"strict", "sandbox", "knowledge_kind", "labels", "show", "encoder"}),
        **(params.model_dump(mode="json", include={"encoder"}) if is_large(current_card(warehouse)) else {}),
        **({} if params.labels is None else {"labels": params.labels}),
        **({} if params.show == "any" else {"show": params.show}),
        **({name: value for name, value in SMALL.items() if name not in params.model_fields_set} if small else {}),
        "candidates": params.candidates if params.candidates is not None else 2 * params.programs,
        "knowledge": params.knowledge_kind if params.knowledge else None,
    }
    from factory.llm import Asker

    asker = Asker(warehouse, call.engine, "author", call.budget, call.progress)
    return author_programs(asker, config, strict=params.strict, sandbox=params.sandbox)


@stage("vote", VoteParams)
def vote(warehouse: Warehouse, params: VoteParams, call: Call) -> StageResult:
    """Run every accepted program over every text that lacks its vote.

    A new program costs its column, new texts cost their rows, a deleted vote costs its block; nothing else is computed again.

    Raises:
        SandboxError: Python cannot run on this system, or `strict` and a layer is missing, here or in a worker of Ray's.
        ClusterError: Ray is asked for and not installed, cannot be reached, or lost a worker for good.
    """
    return vote_texts(
        warehouse, block=params.block, strict=params.strict, sandbox=params.sandbox, ray=params.ray, begin=call.begin,
        progress=call.progress,
    )  # fmt: skip
