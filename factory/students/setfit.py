"""`setfit`: the body tuned on contrasted pairs by the setfit library, and a head trained on soft labels.

The library's own sampler materialises all n (n - 1) / 2 pairs before it takes any; ours draws the pairs it needs (O(n)) and
sets each pair's target to the probability that both texts have the same label, so a doubtful text pulls less.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from factory.encoders.torch_model import encode_with, prompt_of
from factory.logistic import fit_logistic
from factory.result import Progress
from factory.students.base import TrainingSet
from factory.students.tuned import TunedStudent

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class SetFitConfig:
    """Options.

    Attributes:
        per_label: The body is tuned on at most so many texts per label, the surest ones.
        iterations: Pairs of each sort (alike, unlike) per text.
        max_steps: At most so many batches, which bounds the time on a CPU.
        batch_size: Pairs per batch.
        learning_rate: Of the body.
        head_texts: The head is trained on at most so many texts, the heaviest first in a seeded order.
        c: Inverse regularisation of the head.
        seed: Of pairs, batches and dropout.
    """

    per_label: int = 8
    iterations: int = 20
    max_steps: int = 40
    batch_size: int = 16
    learning_rate: float = 2e-5
    head_texts: int = 1000
    c: float = 1.0
    seed: int = 0


class SetFitStudent(TunedStudent):
    """A sentence encoder tuned on pairs, and a linear head on its vectors."""

    kind: ClassVar[str] = "setfit"
    Config: ClassVar[type[Any]] = SetFitConfig

    @classmethod
    def train(cls, lesson: TrainingSet, config: SetFitConfig) -> SetFitStudent:
        texts, targets, weights = lesson.texts, lesson.targets, lesson.weights
        body = lesson.body()
        surest = surest_rows(targets, weights, config.per_label, lesson.multi, config.seed)
        pairs = draw_pairs(targets[surest], config.iterations, lesson.multi, config.seed)[
            : config.max_steps * config.batch_size
        ]
        if pairs:
            _tune(body, [texts[row] for row in surest], pairs, config, lesson.progress)
        rows = np.arange(len(texts))
        if len(rows) > config.head_texts:
            order = np.random.default_rng([config.seed, len(rows)]).permutation(len(rows))
            rows = np.sort(order[np.argsort(-weights[order], kind="stable")][: config.head_texts])
        vectors = encode_with(body, [texts[row] for row in rows.tolist()], progress=lesson.progress)
        return cls(body, fit_logistic(vectors, targets[rows], weights[rows], c=config.c, multi=lesson.multi), config)


def surest_rows(
    soft_labels: NDArray[np.floating[Any]], weights: NDArray[np.floating[Any]], per_label: int, multi: bool, seed: int
) -> list[int]:
    """At most `per_label` rows of each label, the most probable first (ties in a seeded order), ascending."""
    order = np.random.default_rng([seed, len(weights), 1]).permutation(len(weights))
    known = np.nan_to_num(np.asarray(soft_labels, np.float64), nan=0.0)
    chosen: set[int] = set()
    for label in range(known.shape[1]):
        mine = known[:, label] >= 0.5 if multi else known.argmax(axis=1) == label
        candidates = order[mine[order]]
        ranked = candidates[np.argsort(-(known[candidates, label] * weights[candidates]), kind="stable")]
        chosen.update(int(row) for row in ranked[:per_label])
    return sorted(chosen)


def draw_pairs(
    soft_labels: NDArray[np.floating[Any]], iterations: int, multi: bool, seed: int
) -> list[tuple[int, int, float]]:
    """Draw pairs in O(n * iterations): for every text and iteration one of the same label and one of another.

    Args:
        soft_labels: [n, k].
        iterations: Pairs of each sort per text.
        multi: Alike means sharing a label of probability one half or more.
        seed: Of the draw.

    Returns:
        (first row, second row, target similarity in [0, 1]), in shuffled order. A sort of pair that does not exist (one label
        alone, or one text of a label) is left out.
    """
    rng = np.random.default_rng([seed, len(soft_labels), 2])
    known = np.nan_to_num(np.asarray(soft_labels, np.float64), nan=0.0)
    n, k = known.shape
    holds = known >= 0.5 if multi else np.eye(k, dtype=bool)[known.argmax(axis=1)]
    members = [np.flatnonzero(holds[:, label]) for label in range(k)]
    alike, unlike = [], []
    for row in range(n):
        labels = np.flatnonzero(holds[row])
        peers = np.unique(np.concatenate([members[label] for label in labels])) if len(labels) else np.array([row])
        strangers = np.setdiff1d(np.arange(n), peers, assume_unique=True)
        peers = peers[peers != row]
        if len(peers):
            alike += [(row, int(other)) for other in rng.choice(peers, iterations)]
        if len(strangers):
            unlike += [(row, int(other)) for other in rng.choice(strangers, iterations)]
    pairs = [(a, b, 1.0 if multi else float(known[a] @ known[b])) for a, b in alike]
    pairs += [(a, b, 0.0 if multi else float(known[a] @ known[b])) for a, b in unlike]
    return [pairs[index] for index in rng.permutation(len(pairs))]


def _tune(
    body: Any, texts: Sequence[str], pairs: Sequence[tuple[int, int, float]], config: SetFitConfig, progress: Progress
) -> None:
    """Tune the body in place with the library's trainer over our pairs."""
    from datasets import Dataset
    from setfit import SetFitModel, Trainer, TrainingArguments
    from setfit import logging as setfit_logging
    from transformers import PrinterCallback, ProgressCallback, TrainerCallback

    setfit_logging.set_verbosity_error()
    said = [prompt_of(body) + text for text in texts]
    rows = [{"sentence_1": said[a], "sentence_2": said[b], "label": target} for a, b, target in pairs]

    class PairTrainer(Trainer):  # type: ignore[misc]
        """The library's trainer, fed with the pairs that were drawn."""

        def get_dataset(self, x: Any, y: Any, args: Any, max_pairs: int = -1) -> tuple[Any, Any]:
            return Dataset.from_list(rows), args.loss(self.model.model_body)

    class Tell(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            progress(state.global_step, state.max_steps, "steps of setfit")

    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            batch_size=config.batch_size,
            num_epochs=1,
            body_learning_rate=config.learning_rate,
            seed=config.seed,
            save_strategy="no",
            logging_strategy="no",
            report_to="none",
            show_progress_bar=False,
        )
        trainer = PairTrainer(SetFitModel(model_body=body, model_head=None), args=arguments, callbacks=[Tell()])
        trainer.st_trainer.args.dataloader_pin_memory = False
        for noisy in (PrinterCallback, ProgressCallback):
            trainer.st_trainer.remove_callback(noisy)
        trainer.train_embeddings(list(texts), [0] * len(texts), args=arguments)
    body.eval()
