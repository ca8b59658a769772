"""`finetune`: a small transformer and its classification head trained together, end to end, on labels that may be wrong.

The head is fitted first on the frozen body and both are tuned from there, so that the body is not bent by a random head (Kumar et
al. 2022). It reads texts as the encoder and an export do, long ones by windows. Part of the rows is held out: the epoch that
agrees best with their soft labels is kept, the untuned start included, so that tuning on noise cannot end below the start by
that measure. No gold is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from factory.encoders.torch_model import encode_with, prompt_of
from factory.errors import InputError
from factory.logistic import Head, fit_logistic, loss_of
from factory.students.base import TrainingSet
from factory.students.tuned import TunedStudent

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from factory.encoders.windows import Windows
    from factory.students.base import Trial

MOST_TRAINING_WINDOWS = 4
"""Windows of a text that are tuned on; at work all of them count (`factory.encoders.windows.MOST_WINDOWS`)."""


@dataclass(frozen=True)
class FinetuneConfig:
    """Options.

    Attributes:
        epochs: Passes over the rows.
        max_steps: At most so many batches in all, which bounds the time on a CPU.
        batch_size: Texts per batch.
        learning_rate: Of the body, at its peak; it rises over a tenth of the steps and falls to 0.
        head_rate: Of the head.
        weight_decay: Of the body's and the head's weights.
        c: Inverse regularisation of the head that tuning starts from.
        gce: q of the generalized cross-entropy in [0, 1]; 0 is soft cross-entropy.
        elr: Strength of early-learning regularisation; 0 leaves it out.
        elr_memory: Its running mean's beta.
        smoothing: Label smoothing, in [0, 1).
        consistency: Weight of consistency training on the unlabelled texts; 0 leaves it out.
        consistency_confidence: Unlabelled texts whose answer is less sure do not count.
        sharpness: Temperature of their answers, in (0, 1].
        changed: Share of the words of an unlabelled text that is dropped or moved.
        held_out: Share of the rows that decide which epoch is kept; 0 keeps the last.
        soup: Trainings with seeds of their own whose weights are averaged (Wortsman et al. 2022); the average is kept if it
            agrees with the held-out labels at least as well as the best of them, else that one.
        seed: Of batches, dropout and held-out rows.
    """

    epochs: int = 3
    max_steps: int = 200
    batch_size: int = 16
    learning_rate: float = 3e-5
    head_rate: float = 1e-3
    weight_decay: float = 0.01
    c: float = 10.0
    gce: float = 0.0
    elr: float = 0.0
    elr_memory: float = 0.7
    smoothing: float = 0.0
    consistency: float = 0.0
    consistency_confidence: float = 0.8
    sharpness: float = 0.4
    changed: float = 0.15
    held_out: float = 0.1
    soup: int = 1
    seed: int = 0


class FinetuneStudent(TunedStudent):
    """A transformer with a classification head, tuned as one."""

    kind: ClassVar[str] = "finetune"
    Config: ClassVar[type[Any]] = FinetuneConfig

    @classmethod
    def train(cls, lesson: TrainingSet, config: FinetuneConfig) -> FinetuneStudent:
        if config.consistency > 0 and not lesson.unlabelled:
            raise InputError("consistency training needs unlabelled texts", fix="Set `consistency` to 0")
        if config.soup < 1 or config.epochs < 1 or not 0 <= config.held_out < 1:
            raise InputError("`soup` and `epochs` are 1 or more, and `held_out` lies in [0, 1)")
        body = lesson.body()
        held = _held_out(len(lesson.texts), config)
        learn = ~held if held.any() else np.ones(len(held), bool)
        vectors = encode_with(body, lesson.texts, progress=lesson.progress)
        head = fit_logistic(
            vectors[learn], lesson.targets[learn], lesson.weights[learn], c=config.c, multi=lesson.multi
        )
        start = _State.of(body, head)

        def judge(state: _State) -> float:
            state.into(body)
            probs = state.head.predict_proba(
                encode_with(body, [lesson.texts[i] for i in np.flatnonzero(held).tolist()])
            )
            return loss_of(probs, lesson.targets[held], lesson.weights[held], lesson.multi)

        trials: list[Trial] = []
        found: list[tuple[float, _State]] = []
        for number in range(config.soup):
            start.into(body)
            states = _tune(body, head, lesson, np.flatnonzero(learn), replace(config, seed=config.seed + number))
            best, kept = (judge(start), start) if held.any() else (0.0, start)
            if held.any() and number == 0:
                trials.append(({"epoch": 0}, best))
            for epoch, state in enumerate(states, start=1):
                loss = judge(state) if held.any() else -float(epoch)
                if held.any():
                    trials.append(({"seed": config.seed + number, "epoch": epoch}, loss))
                if loss < best:
                    best, kept = loss, state
                state.into(body, tuning=True)
            found.append((best, kept))
        best, kept = min(found, key=lambda pair: pair[0])
        if config.soup > 1:
            soup = _State.mean([state for _, state in found])
            loss = judge(soup) if held.any() else best
            if held.any():
                trials.append(({"soup": config.soup}, loss))
            kept = soup if loss <= best else kept
        kept.into(body)
        student = cls(body, kept.head, config)
        student.trials = trials
        return student


@dataclass(frozen=True)
class _State:
    """A body's weights and its head, away from the body."""

    weights: dict[str, Any]
    head: Head

    @classmethod
    def of(cls, body: Any, head: Head) -> _State:
        return cls({name: value.detach().cpu().clone() for name, value in body.state_dict().items()}, head)

    def into(self, body: Any, *, tuning: bool = False) -> None:
        body.load_state_dict(self.weights)
        body.train(tuning)

    @classmethod
    def mean(cls, states: Sequence[_State]) -> _State:
        import torch

        first = states[0]
        weights = {
            name: torch.stack([state.weights[name] for state in states]).mean(0) if value.is_floating_point() else value
            for name, value in first.weights.items()
        }
        weight = np.stack([state.head.weight for state in states]).mean(axis=0)
        bias = np.stack([state.head.bias for state in states]).mean(axis=0)
        return cls(weights, Head(weight, bias, first.head.multi))


def _held_out(n: int, config: FinetuneConfig) -> NDArray[np.bool_]:
    held = np.zeros(n, bool)
    if n * config.held_out >= 5:
        held[np.random.default_rng([config.seed, n]).permutation(n)[: int(n * config.held_out)]] = True
    return held


def _tune(
    body: Any, head: Head, lesson: TrainingSet, rows: NDArray[np.int64], config: FinetuneConfig
) -> Iterator[_State]:
    """Tune body and head in place; gives their state after every epoch. The body's generator of random numbers is its own."""
    import torch

    from factory.students.losses import EarlyLearning, consistency_loss, label_loss, smoothed

    device = next(body.parameters()).device
    read = reader(body)
    linear = torch.nn.Linear(head.weight.shape[1], head.weight.shape[0]).to(device)
    with torch.no_grad():
        linear.weight.copy_(torch.from_numpy(head.weight))
        linear.bias.copy_(torch.from_numpy(head.bias))
    known = torch.tensor(~np.isnan(lesson.targets), dtype=torch.float32, device=device)
    targets = torch.tensor(np.nan_to_num(lesson.targets), dtype=torch.float32, device=device)
    weights = torch.tensor(lesson.weights, dtype=torch.float32, device=device)
    targets = smoothed(targets, known, config.smoothing, lesson.multi)
    n, k = targets.shape
    early = EarlyLearning(n, k, strength=config.elr, memory=config.elr_memory, multi=lesson.multi, device=device)
    per_epoch = -(-len(rows) // config.batch_size)
    total = min(config.epochs * per_epoch, config.max_steps)
    optimiser = torch.optim.AdamW(
        [
            {"params": list(body.parameters()), "lr": config.learning_rate},
            {"params": list(linear.parameters()), "lr": config.head_rate},
        ],
        weight_decay=config.weight_decay,
    )
    rising = max(1, total // 10)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: min((step + 1) / rising, max(total - step, 1) / max(total - rising, 1))
    )
    rng = np.random.default_rng([config.seed, n, 3])
    chances = torch.Generator().manual_seed(config.seed)
    spare = _endless(list(lesson.unlabelled), config.batch_size, rng)
    step = 0
    for _ in range(config.epochs):
        order = rng.permutation(rows)
        for first in range(0, len(order), config.batch_size):
            if step == total:
                break
            with torch.random.fork_rng():
                torch.manual_seed(int(torch.randint(2**31, (1,), generator=chances)))
                body.train()
                batch = torch.from_numpy(order[first : first + config.batch_size]).to(device)
                logits = linear(read([lesson.texts[i] for i in batch.tolist()]))
                loss = label_loss(logits, targets[batch], known[batch], multi=lesson.multi, gce=config.gce)
                if config.elr > 0:
                    loss = loss + early(batch, logits, known[batch])
                loss = (loss * weights[batch]).mean()
                if config.consistency > 0:
                    texts = next(spare)
                    with torch.no_grad():
                        before = linear(read(texts))
                    after = linear(read([changed(text, config.changed, rng) for text in texts]))
                    further = consistency_loss(
                        before, after, multi=lesson.multi, confidence=config.consistency_confidence,
                        sharpness=config.sharpness,
                    )  # fmt: skip
                    loss = loss + config.consistency * further.mean()
                optimiser.zero_grad()
                loss.backward()
                torch.nn.utils.clip_grad_norm_([*body.parameters(), *linear.parameters()], 1.0)
                optimiser.step()
                schedule.step()
            step += 1
            lesson.progress(step, total, "steps of tuning")
        weight, bias = linear.weight.detach().cpu().numpy().copy(), linear.bias.detach().cpu().numpy().copy()
        yield _State.of(body, Head(weight, bias, lesson.multi))
        if step == total:
            return


def reader(body: Any) -> Callable[[Sequence[str]], Any]:
    """What reads a batch of texts with gradients, as `encode_with` and an export's graph read them.

    Args:
        body: A `SentenceTransformer` with a fast tokenizer.

    Returns:
        n texts to unit vectors, a tensor [n, d].

    Raises:
        InputError: The body has no fast tokenizer.
    """
    import torch

    from factory.encoders.windows import padded, shares, window_tokenizer, windows_of

    backend = getattr(body.tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise InputError("the encoder has no fast tokenizer, which tuning needs", fix="Use the student `embedding`")
    cutter = window_tokenizer(backend, int(body.max_seq_length or 512))
    pad, prompt = int(body.tokenizer.pad_token_id or 0), prompt_of(body)
    device = next(body.parameters()).device

    def read(texts: Sequence[str]) -> Any:
        cut: list[Windows] = [
            windows[:MOST_TRAINING_WINDOWS] for windows in windows_of(cutter, [prompt + text for text in texts])
        ]
        ids, mask = padded([ids for windows in cut for ids in windows], pad, least=1)
        features = {"input_ids": torch.from_numpy(ids).to(device), "attention_mask": torch.from_numpy(mask).to(device)}
        units = torch.nn.functional.normalize(body(features)["sentence_embedding"], dim=1)
        return torch.nn.functional.normalize(torch.from_numpy(shares(cut)).to(device) @ units, dim=1)

    return read


def changed(text: str, share: float, rng: np.random.Generator) -> str:
    """A text with some of its words dropped and some neighbours exchanged, half the share each; never empty.

    Example:
        >>> changed("one two three four five six", 0.5, np.random.default_rng(0))
        'one two five six'
    """
    words = text.split()
    kept = [word for word in words if rng.random() >= share / 2] or words[:1]
    for at in range(len(kept) - 1):
        if rng.random() < share / 2:
            kept[at], kept[at + 1] = kept[at + 1], kept[at]
    return " ".join(kept)


def _endless(texts: list[str], size: int, rng: np.random.Generator) -> Iterator[list[str]]:
    while texts:
        order = rng.permutation(len(texts))
        for start in range(0, len(order), size):
            yield [texts[i] for i in order[start : start + size]]
