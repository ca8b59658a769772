"""`tune`: the language model learns from its own accepted texts, as a LoRA adapter that engines ask by name."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from factory import prompts
from factory.annotation.shots import demonstrations as shots
from factory.canonical import digest
from factory.errors import InputError
from factory.extras import need
from factory.files.exchange import take_place
from factory.llm.adapters import adapters
from factory.names import plain_name
from factory.params import Call, Params, stage
from factory.result import Progress, StageResult
from factory.students.stored import artefacts
from factory.task import TaskCard, current_card
from factory.tuning import store
from factory.tuning.pairs import Example, Pair, balanced
from factory.tuning.train import Recipe, recipe_json, recipe_of
from factory.warehouse.held_out import decontaminate

if TYPE_CHECKING:
    from factory.warehouse.file import Warehouse

_SAMPLE = 1 << 20
_VLLM_RANK = 16
"""The largest rank that vLLM serves unless it is told otherwise."""
RECIPE = {
    "rank", "alpha", "dropout", "epochs", "rate", "warmup", "batch", "accumulate", "max_tokens", "held_out",
    "gradient_checkpointing",
}  # fmt: skip
"""Parameters of the step that are named so in the recipe."""


class TuneParams(Params):
    """The parameters of `tune`."""

    name: str = Field(
        "tuned",
        description="Of the adapter; engines know it as `NAME-` and the first digits of the SHA-256 of its weights.",
    )
    base: str | None = Field(
        None,
        description="Hub name or folder of the model's weights; the engine's `model` by default, which is asked later.",
    )
    revision: str | None = Field(None, description="Commit of the weights; the engine's `revision` by default.")
    learn_from: list[str] | None = Field(
        None,
        description="Names of the synthesize steps to learn from; every `self_guide` one by default, whose texts were labelled"
        " twice.",
    )
    prompt: str = Field(
        "annotate",
        description="The labelling prompt to learn (form `label`). `annotate` is asked afterwards; `self_guide_output` is the one"
        " that labelled Self-Guide's texts.",
    )
    demonstrations: int = Field(
        3, ge=0, description="Seeds per label that the prompt shows, as the paper keeps its few-shot prompt."
    )
    balance: bool = Field(True, description="Cut every label down to the rarest, as the paper's code does.")
    rank: int = Field(
        16, ge=1, description="Of the adapter. 16 is the most that vLLM serves unless it is told otherwise."
    )
    alpha: int = Field(32, ge=1, description="It is scaled by `alpha / rank`; twice the rank is the usual choice.")
    dropout: float = Field(0.05, ge=0, lt=1, description="On its input; a little, since the pairs are few.")
    targets: str | list[str] = Field(
        "all-linear", description="`all-linear`, or names of modules. All of them fit any architecture."
    )
    epochs: int = Field(3, ge=1, description="Passes over the pairs; 3 in the paper.")
    rate: float = Field(
        2e-4, gt=0, description="Peak learning rate; 2e-4 is the usual one for an adapter, which starts at zero."
    )
    warmup: float = Field(0.03, ge=0, lt=1, description="Share of the steps.")
    batch: int = Field(8, ge=1, description="Pairs per forward pass: what a small GPU holds.")
    accumulate: int = Field(1, ge=1, description="Forward passes per step; more where `batch` must be smaller.")
    max_tokens: int = Field(
        2048, ge=1, description="Longer pairs are left out, never cut; 2048 hold the few-shot prompt of most tasks."
    )
    held_out: float = Field(0.1, ge=0, lt=1, description="Share of the pairs on which the loss is only watched.")
    gradient_checkpointing: bool = Field(
        False, description="Less memory for a third more time; off while the model fits."
    )
    template: dict[str, Any] | None = Field(
        None,
        description="More arguments of the chat template; the engine's `extra_body.chat_template_kwargs` by default.",
    )
    random_seed: int = Field(0, ge=0, description="Of the adapter's start and of the order of the pairs.")

    def extras(self) -> dict[str, str]:
        return {"peft": "`tune`"}


@stage("tune", TuneParams)
def tune(warehouse: Warehouse, params: TuneParams, call: Call) -> StageResult:
    """Fine-tune the language model on its own accepted texts: input, the chat that `annotate` asks; completion, the label.

    The last step of Self-Guide (arXiv 2407.12874), with a LoRA adapter in place of all weights. An adapter is known by its
    configuration, its pairs and its model: run again it is there already. It runs on a GPU if there is one. Ask it by
    `annotate: {adapter: NAME}`; the report then shows it (`self_tuned`) beside the model as it was (`teacher`).

    Returns:
        Name and folder of the adapter, pairs, and the loss per completion token before training and after each epoch.

    Raises:
        InputError: Nothing to learn from, a `multi` task, a value out of range.
        EngineError: The model cannot be loaded.
    """
    card = current_card(warehouse)
    settings: Mapping[str, Any] = call.settings or {}
    model = _checked(card, params, params.base or settings.get("model"))
    targets = params.targets if isinstance(params.targets, str) else tuple(params.targets)
    recipe = recipe_of({**params.model_dump(include=RECIPE), "targets": targets, "seed": params.random_seed})
    revision = params.revision or settings.get("revision")
    template = params.template or (settings.get("extra_body") or {}).get("chat_template_kwargs") or {}
    local = (call.base or Path()) / model
    where = str(local) if local.is_dir() else model
    decontaminate(warehouse)
    names = store.sources(warehouse, params.learn_from)
    every = store.examples(warehouse, names)
    kept, left = balanced(every, card.label_names) if params.balance else (every, [])
    config = {
        "name": params.name, "model": [model, revision, _fingerprint(where)], "learn_from": names, "prompt": params.prompt,
        "demonstrations": params.demonstrations, "balance": params.balance, "template": template, "recipe": recipe_json(recipe),
    }  # fmt: skip
    version = prompts.load(params.prompt).version
    pairs = digest([[example.text, example.label] for example in kept])
    seeds = store.seeds_digest(warehouse) if params.demonstrations else None
    key = digest(
        {"stage": "tune", "config": config, "task": card.revision, "prompt": version, "pairs": pairs, "seeds": seeds}
    )
    there = next((one for one in adapters(warehouse) if one.key == key and one.whole), None)
    if there is not None:
        done = {"adapter": there.name, "path": str(there.folder), **store.params_of(warehouse, there.adapter_no)}
        return StageResult("tune", skipped=True, did=done)
    call.begin()
    need("peft", "`tune`")
    call.release()  # an engine in this process may hold the memory that training needs
    adapter = {
        "key": key, "alias": params.name, "base_model": model, "revision": revision, "prompt": params.prompt,
        "prompt_version": version, "demonstrations": params.demonstrations, "config": config,
    }  # fmt: skip
    return _train(warehouse, card, adapter, kept, left, recipe, where, call.progress)


def pairs_of(card: TaskCard, prompt: str, texts: Sequence[Example], shown: Sequence[Mapping[str, Any]]) -> list[Pair]:
    """The chat that `annotate` asks about each text, and its label.

    Args:
        prompt: Name of a prompt of form `label`.
        texts: What to learn from.
        shown: Demonstrations, from `annotation.shots`.
    """
    asked, values = prompts.load(prompt), prompts.card_values(card)
    return [Pair(asked.messages({**values, "text": one.text}, shown), one.label) for one in texts]


def _train(
    warehouse: Warehouse, card: TaskCard, adapter: Mapping[str, Any], kept: Sequence[Example], left: Sequence[Example],
    recipe: Recipe, where: str, progress: Progress,
) -> StageResult:  # fmt: skip
    """Train and store an adapter of which all is known but its weights; `where` is the model's folder or hub name."""
    from factory.tuning.train import train_adapter

    root = artefacts(warehouse) / "adapters"
    progress(0, 0, "loading the model")
    draft = root / f".{adapter['alias']}-{adapter['key'][:8]}"
    pairs = pairs_of(card, adapter["prompt"], kept, shots(warehouse, card, adapter["demonstrations"]))
    found = train_adapter(
        where, pairs, draft, recipe, revision=adapter["revision"], template=adapter["config"]["template"], progress=progress
    )  # fmt: skip
    name = f"{adapter['alias']}-{found.weights[:8]}"
    folder = root / name
    take_place(draft, folder)
    per_label = Counter(kept[at].label for at in found.trained)
    params = {
        "pairs": len(found.trained), "per_label": dict(sorted(per_label.items())),
        "left_out": {"balance": len(left), "too_long": len(found.too_long)},
        "loss": [round(value, 4) for value in found.loss], "watched": found.watched, "steps": found.steps,
        "completion_tokens": found.tokens, "device": found.device,
    }  # fmt: skip
    reasons: dict[int, str | None] = {example.synthetic_no: None for example in kept}
    reasons |= {kept[at].synthetic_no: "too_long" for at in found.too_long}
    watched = set(range(len(kept))) - set(found.trained) - set(found.too_long)
    reasons |= {kept[at].synthetic_no: "held_out" for at in watched}
    reasons |= {example.synthetic_no: "balance" for example in left}
    path = str(folder.relative_to(warehouse.folder) if warehouse.folder else folder)
    told = {**adapter, "name": name, "weights": found.weights, "params": params, "path": path}
    store.save(warehouse, told, sorted(reasons.items()))
    bare = [label for label in card.label_names if not per_label.get(label)]
    rank = f" --max-lora-rank {recipe.rank}" if recipe.rank > _VLLM_RANK else ""
    says = [
        f"{name}: {len(found.trained)} pairs, {found.steps} steps on {found.device} in {found.seconds:.0f} s; loss per"
        f" completion token {found.loss[0]:.3f} -> {found.loss[-1]:.3f} ({found.watched.replace('_', ' ')})",
        f"serve it with: vllm serve {adapter['base_model']} --enable-lora{rank} --lora-modules {name}={folder}",
    ]
    if bare:
        says.append(f"nothing was learned of {', '.join(bare)}: no accepted text has that label")
    return StageResult("tune", did={"adapter": name, "path": str(folder), **params}, says=tuple(says))


def _checked(card: TaskCard, params: TuneParams, model: Any) -> str:
    """The model to tune, after the parameters were looked at."""
    if card.kind == "multi":
        raise InputError("`tune` knows tasks of kind `single` alone", where="tune", fix="Leave the step out")
    plain_name(params.name, "an adapter's name", where="tune.name")
    if prompts.load(params.prompt).form != "label":
        raise InputError(f"prompt {params.prompt!r} does not ask for one label", where="tune.prompt")
    if not model:
        fix = "Give `base`: the hub name or the folder of the model"
        raise InputError("the engine does not say which weights it serves", where="tune", fix=fix)
    return str(model)


def _fingerprint(model: str) -> str | None:
    """Of a folder of weights: names, sizes and both ends of its files. None for a hub name (its revision tells)."""
    folder = Path(model)
    if not folder.is_dir():
        return None
    parts = []
    for path in sorted(folder.glob("*")):
        if path.suffix in {".safetensors", ".json"} and path.is_file():
            size = path.stat().st_size
            with path.open("rb") as file:
                head = file.read(_SAMPLE)
                file.seek(max(0, size - _SAMPLE))
                parts.append([path.name, size, hashlib.sha256(head + file.read()).hexdigest()])
    return digest(parts)
