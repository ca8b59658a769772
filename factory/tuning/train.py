"""Pairs -> a LoRA adapter (Hu et al., arXiv 2106.09685) by `peft` and `transformers`: completions alone carry loss."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from factory.errors import EngineError, InputError
from factory.files.replace import replaced_folder
from factory.result import Progress, no_progress
from factory.tuning.pairs import Pair
from factory.tuning.tokens import NO_LOSS, Encoded, encode


@dataclass(frozen=True)
class Recipe:
    """How to train.

    Self-Guide fine-tunes all weights for 3 epochs at the library's rate of 5e-5 in bfloat16. An adapter has few weights and
    starts at zero, so its rate is the usual higher one; epochs, loss on completions alone and the few-shot prompt are the
    paper's. Its checkpoint is chosen on gold; here the last one is taken, since there may be no gold to choose on.

    Attributes:
        rank: Of the adapter. vLLM serves up to 16 unless told (`--max-lora-rank`).
        alpha: The adapter is scaled by `alpha / rank`.
        dropout: On the adapter's input, 0 to 1.
        targets: `all-linear`, or names of modules.
        epochs: Passes over the pairs.
        rate: Peak learning rate; warms up linearly, then decays linearly to zero.
        warmup: Share of the steps.
        batch: Pairs per forward pass.
        accumulate: Forward passes per step.
        max_tokens: Longer pairs are left out, never cut.
        held_out: Share of the pairs on which the loss is watched and nothing is learned; below 10 pairs none are held out.
        gradient_checkpointing: Less memory for a third more time.
        seed: Of the adapter's start and of the order.
    """

    rank: int = 16
    alpha: int = 32
    dropout: float = 0.05
    targets: str | tuple[str, ...] = "all-linear"
    epochs: int = 3
    rate: float = 2e-4
    warmup: float = 0.03
    batch: int = 8
    accumulate: int = 1
    max_tokens: int = 2048
    held_out: float = 0.1
    gradient_checkpointing: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.rank, self.alpha, self.epochs, self.batch, self.accumulate, self.max_tokens) < 1 or self.rate <= 0:
            raise ValueError("rank, alpha, epochs, batch, accumulate and max_tokens are at least 1, rate is above 0")
        if not (0 <= self.dropout < 1 and 0 <= self.held_out < 1 and 0 <= self.warmup < 1):
            raise ValueError("dropout, held_out and warmup are at least 0 and below 1")


@dataclass(frozen=True)
class Trained:
    """What training came to.

    Attributes:
        weights: SHA-256 of `adapter_model.safetensors`.
        trained: Positions of the pairs that were learned from.
        too_long: Positions of the pairs that were left out for their length.
        loss: Mean loss per completion token of the watched pairs, before training and after each epoch.
        watched: `held_out`, or `training` where too few pairs were given to hold any out.
        steps: Optimiser steps.
        tokens: Completion tokens of one epoch.
        device: Where it ran.
        seconds: How long it took, loading apart.
    """

    weights: str
    trained: tuple[int, ...]
    too_long: tuple[int, ...]
    loss: tuple[float, ...]
    watched: str
    steps: int
    tokens: int
    device: str
    seconds: float


def train_adapter(
    model: str, pairs: Sequence[Pair], folder: Path, recipe: Recipe = Recipe(), *, revision: str | None = None,
    template: Mapping[str, Any] | None = None, progress: Progress = no_progress,
) -> Trained:  # fmt: skip
    """Train a LoRA adapter and write it to a folder that appears whole or not at all.

    Args:
        model: Hub name or folder of the model, with a chat template.
        pairs: What to learn from.
        folder: Where to; replaced if it is there.
        recipe: How.
        revision: Commit of the model's weights.
        template: More arguments of the chat template.
        progress: Called with (steps done, steps, what).

    Raises:
        InputError: No pairs, or none short enough.
        EngineError: The model cannot be loaded, or has no chat template.
    """
    import torch

    if not pairs:
        raise InputError("there are no pairs to learn from")
    tokenizer, base = _load(model, revision)
    encoded = [encode(tokenizer, pair, template=template) for pair in pairs]
    short = [at for at, one in enumerate(encoded) if len(one.ids) <= recipe.max_tokens]
    if not short:
        fix = "Raise `max_tokens`, or show fewer examples"
        raise InputError(f"no pair fits into {recipe.max_tokens} tokens", where="tune", fix=fix)
    learn, watch = _split(short, recipe)
    torch.manual_seed(recipe.seed)
    adapted = _adapted(base, recipe)
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    began = time.perf_counter()
    watched = [encoded[at] for at in watch or learn]
    losses, steps = _fit(adapted, [encoded[at] for at in learn], watched, recipe, pad, progress)
    seconds = time.perf_counter() - began
    weights = _save(adapted, folder, model)
    return Trained(
        weights, tuple(learn), tuple(at for at in range(len(pairs)) if at not in set(short)), tuple(losses),
        "held_out" if watch else "training", steps, sum(encoded[at].completion_tokens for at in learn),
        str(adapted.device), seconds,
    )  # fmt: skip


def mean_loss(model: Any, pairs: Sequence[Encoded], *, pad: int, batch: int = 8) -> float:
    """Mean cross-entropy per completion token, in nats; prompt tokens do not enter."""
    import torch

    training = model.training
    model.eval()
    total, count = 0.0, 0
    with torch.no_grad():
        for first in range(0, len(pairs), batch):
            rows = collate(pairs[first : first + batch], pad)
            rows = {name: value.to(model.device) for name, value in rows.items()}
            labels = rows.pop("labels")
            logits, wanted = model(**rows).logits[:, :-1].float(), labels[:, 1:].reshape(-1)
            flat = logits.reshape(-1, logits.shape[-1])
            total += float(torch.nn.functional.cross_entropy(flat, wanted, ignore_index=NO_LOSS, reduction="sum"))
            count += int((wanted != NO_LOSS).sum())
    model.train(training)
    return total / max(count, 1)


def collate(pairs: Sequence[Encoded], pad: int) -> dict[str, Any]:
    """Pairs as one batch, padded on the right: `input_ids`, `attention_mask` and `labels`, int64 [n, longest]."""
    import torch

    rows: dict[str, tuple[int, Sequence[Sequence[int]]]] = {
        "input_ids": (pad, [pair.ids for pair in pairs]), "attention_mask": (0, [[1] * len(pair.ids) for pair in pairs]),
        "labels": (NO_LOSS, [pair.labels for pair in pairs]),
    }  # fmt: skip
    width = max(len(pair.ids) for pair in pairs)
    return {name: torch.tensor([[*row, *[end] * (width - len(row))] for row in of]) for name, (end, of) in rows.items()}


# ----------------------------------------------------------------------------------------------------------------------
def _load(model: str, revision: str | None) -> tuple[Any, Any]:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    there = torch.cuda.is_available()
    try:
        tokenizer = AutoTokenizer.from_pretrained(model, revision=revision)
        dtype = torch.bfloat16 if there else torch.float32
        base: Any = AutoModelForCausalLM.from_pretrained(model, revision=revision, dtype=dtype)
    except (OSError, ValueError) as error:
        words, fix = str(error).splitlines()[0], "Give `base`: the hub name or the folder of the model's weights"
        raise EngineError(f"the model cannot be loaded: {words}", where=model, fix=fix) from error
    if not getattr(tokenizer, "chat_template", None):
        raise EngineError("the model has no chat template", where=model, fix="Take an instruction-tuned model")
    return tokenizer, base.to("cuda:0") if there else base


def _adapted(base: Any, recipe: Recipe) -> Any:
    from peft import LoraConfig, TaskType, get_peft_model

    targets = _linear_names(base) if recipe.targets == "all-linear" else recipe.targets
    config = LoraConfig(
        r=recipe.rank, lora_alpha=recipe.alpha, lora_dropout=recipe.dropout,
        target_modules=targets if isinstance(targets, str) else list(targets),
        task_type=TaskType.CAUSAL_LM, bias="none",
    )  # fmt: skip
    try:
        return get_peft_model(base, config)
    except ValueError as error:
        raise InputError(f"the adapter does not fit the model: {error}", where="tune.targets") from error


def _linear_names(base: Any) -> list[str]:
    """Last names of all linear layers but the output layer (`q_proj`, `down_proj`, ...): the form that vLLM reads."""
    import torch

    output = base.get_output_embeddings()
    linear = [name for name, one in base.named_modules() if isinstance(one, torch.nn.Linear) and one is not output]
    return sorted({name.rpartition(".")[2] for name in linear})


def _split(short: Sequence[int], recipe: Recipe) -> tuple[list[int], list[int]]:
    """Positions to learn from and to watch: the watched ones are drawn evenly by the seed."""
    import numpy as np

    count = int(len(short) * recipe.held_out) if len(short) >= 10 else 0
    drawn = {int(at) for at in np.random.default_rng([recipe.seed, 8]).permutation(len(short))[:count]}
    return [p for at, p in enumerate(short) if at not in drawn], [p for at, p in enumerate(short) if at in drawn]


def _fit(
    model: Any, learn: Sequence[Encoded], watch: Sequence[Encoded], recipe: Recipe, pad: int, progress: Progress
) -> tuple[list[float], int]:
    """Train in place by `transformers.Trainer`; the watched loss before and after each epoch, and the steps."""
    import tempfile

    import torch
    from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

    losses = [mean_loss(model, watch, pad=pad, batch=recipe.batch)]

    class Watch(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            progress(state.global_step, state.max_steps, f"steps, loss {losses[-1]:.3f}")

        def on_epoch_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            losses.append(mean_loss(model, watch, pad=pad, batch=recipe.batch))

    there = torch.cuda.is_available()
    warmup = int(recipe.warmup * -(-len(learn) // (recipe.batch * recipe.accumulate)) * recipe.epochs)
    with tempfile.TemporaryDirectory(prefix="factory-tune-") as scratch:
        arguments = TrainingArguments(
            output_dir=scratch, num_train_epochs=recipe.epochs, per_device_train_batch_size=recipe.batch,
            gradient_accumulation_steps=recipe.accumulate, learning_rate=recipe.rate, warmup_steps=warmup,
            lr_scheduler_type="linear", optim="adamw_torch", seed=recipe.seed, data_seed=recipe.seed, bf16=there,
            use_cpu=not there, save_strategy="no", logging_strategy="no", report_to=[], disable_tqdm=True,
            remove_unused_columns=False, gradient_checkpointing=recipe.gradient_checkpointing,
            dataloader_pin_memory=there,
        )  # fmt: skip
        arguments._n_gpu = min(
            arguments.n_gpu, 1
        )  # several would be driven by DataParallel: it copies the model each step
        if recipe.gradient_checkpointing:
            model.enable_input_require_grads()
        trainer = Trainer(
            model=model, args=arguments, train_dataset=list(learn), data_collator=lambda rows: collate(rows, pad),
            callbacks=[Watch()],
        )  # fmt: skip
        trainer.remove_callback(PrinterCallback)  # it prints on stdout, which is ours
        trainer.train()
    return losses, int(trainer.state.global_step)


def _save(model: Any, folder: Path, name: str) -> str:
    """Write the adapter beside its place and move it there; SHA-256 of its weights."""
    with replaced_folder(folder) as draft:
        model.peft_config["default"].base_model_name_or_path = name
        model.save_pretrained(str(draft), safe_serialization=True)
        (draft / "README.md").unlink(missing_ok=True)  # peft's empty form of a model card
        with (draft / "adapter_model.safetensors").open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


def recipe_of(values: Mapping[str, Any]) -> Recipe:
    """A recipe from a pipeline's values.

    Raises:
        InputError: A value is out of range.
    """
    try:
        return Recipe(**values)
    except ValueError as error:
        raise InputError(str(error), where="tune") from error


def recipe_json(recipe: Recipe) -> dict[str, Any]:
    """A recipe as plain JSON values."""
    found: dict[str, Any] = json.loads(json.dumps(asdict(recipe)))
    return found
