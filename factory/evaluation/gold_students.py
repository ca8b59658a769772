"""Students trained on gold alone, with the student's own recipe: `dev_only`, `full_gold`, and the label-equivalents curve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from factory.evaluation.systems import LabelSpace, Predictions, from_columns
from factory.result import Progress, no_progress

if TYPE_CHECKING:
    import duckdb
    from numpy.typing import NDArray

    from factory.encoders.base import Encoder
    from factory.students.stored import StoredModel
    from factory.warehouse.file import Warehouse
    from factory.warehouse.tables.gold import Gold


@dataclass(frozen=True)
class Recipe:
    """How the student was made, so that the same can be made of other labels.

    Attributes:
        kind: A name in `STUDENTS`.
        config: Its options as they were asked for (`auto` is resolved anew for each training).
        label_nos: Label numbers, in the order of its columns.
        multi: Whether a text may have any number of labels.
        encoder: The encoder, or None.
        vectors: Whether it learns from vectors rather than texts.
        slow: Whether it takes minutes to train.
    """

    kind: str
    config: Mapping[str, Any]
    label_nos: Sequence[int]
    multi: bool
    encoder: Encoder | None
    vectors: bool
    slow: bool

    @property
    def vectoriser(self) -> Encoder | None:
        """The encoder, if the student learns from vectors."""
        return self.encoder if self.vectors else None


def recipe_of(model: StoredModel, multi: bool) -> Recipe:
    """The recipe of a stored student."""
    from factory.students.base import student_class
    from factory.students.stored import encoder_of

    cls = student_class(model.student)
    options = dict(model.config.get("options") or {})
    options.pop("consistency", None)  # needs unlabelled texts, which gold alone does not bring
    return Recipe(model.student, options, model.label_nos, multi, encoder_of(model), cls.takes != "texts", cls.slow)


@dataclass(frozen=True)
class Inputs:
    """What students learn from and predict on, for evaluation.

    Vectors that the warehouse holds are read; others are computed and kept in the gold file, never in the warehouse: none of its
    tables may depend on whether there is gold.

    Attributes:
        warehouse: Where the texts are.
        db: The gold file.
    """

    warehouse: Warehouse
    db: duckdb.DuckDBPyConnection

    def of(self, encoder: Encoder | None, text_nos: NDArray[np.int32], progress: Progress = no_progress) -> Any:
        """Texts with their vectors if there is an encoder, else a list of texts; in the order asked."""
        from factory.students.base import TextsAndVectors
        from factory.students.stored import texts_of
        from factory.warehouse.file import insert

        texts = texts_of(self.warehouse, [int(number) for number in text_nos])
        if encoder is None:
            return texts
        unique, at = np.unique(text_nos, return_inverse=True)
        out = np.zeros((len(unique), encoder.dimension), np.float32)
        missing = np.ones(len(unique), bool)
        wanted = pa_table({"place": np.arange(len(unique)), "text_no": unique.astype(np.int32)})
        with self.warehouse.read() as db:
            db.register("wanted_vectors", wanted)
            held = db.sql(
                "SELECT place, vector FROM vectors JOIN wanted_vectors USING (text_no) WHERE encoder_key = ?",
                params=[encoder.key],
            ).to_arrow_table()
            hashes = db.execute(
                "SELECT place, content_hash, text FROM texts JOIN wanted_vectors USING (text_no) ORDER BY place"
            ).fetchall()
            db.unregister("wanted_vectors")
        _fill(out, missing, held)
        if missing.any():
            rest = [(place, bytes(key), text) for place, key, text in hashes if missing[place]]
            places, keys, _ = zip(*rest, strict=True)
            self.db.register("wanted_vectors", pa_table({"place": places, "content_hash": keys}))
            held = self.db.sql(
                "SELECT place, vector FROM vectors JOIN wanted_vectors USING (content_hash) WHERE encoder_key = ?",
                params=[encoder.key],
            ).to_arrow_table()
            self.db.unregister("wanted_vectors")
            _fill(out, missing, held)
        if missing.any():
            new_places, new_keys, new_texts = zip(*(row for row in rest if missing[row[0]]), strict=True)
            new = encoder.encode(list(new_texts), progress)
            out[list(new_places)] = new
            columns = {"encoder_key": [encoder.key] * len(new), "content_hash": new_keys, "vector": list(new)}
            insert(self.db, "vectors", pa_table(columns))
        return TextsAndVectors(texts, out[at])


def pa_table(columns: Mapping[str, Any]) -> Any:
    """An Arrow table of plain columns."""
    import pyarrow as pa

    return pa.table(dict(columns))


def _fill(out: NDArray[np.float32], missing: NDArray[np.bool_], held: Any) -> None:
    if held.num_rows:
        places = held.column("place").to_numpy()
        flat = held.column("vector").combine_chunks().flatten().to_numpy(zero_copy_only=False)
        out[places] = flat.reshape(held.num_rows, -1)
        missing[places] = False


def pick(inputs: Any, rows: NDArray[np.int64]) -> Any:
    """Some rows of inputs."""
    from factory.students.base import TextsAndVectors

    if isinstance(inputs, TextsAndVectors):
        return inputs.take(rows)
    return inputs[rows] if isinstance(inputs, np.ndarray) else [inputs[int(row)] for row in rows]


def gold_targets(
    text_nos: NDArray[np.int32], labels: NDArray[np.bool_], label_nos: Sequence[int]
) -> tuple[NDArray[np.int32], NDArray[np.float64], NDArray[np.float64]]:
    """Gold rows to one row per text: text numbers [m], mean label [m, columns] and how often the text stands there [m].

    Texts whose gold is of inactive labels alone are left out of a `single` task's rows (their target would be empty).
    """
    unique, at = np.unique(text_nos, return_inverse=True)
    targets = np.zeros((len(unique), len(label_nos)))
    np.add.at(targets, at, labels[:, list(label_nos)].astype(float))
    times = np.bincount(at, minlength=len(unique)).astype(float)
    return unique.astype(np.int32), targets / times[:, None], times


def train(recipe: Recipe, inputs: Any, targets: NDArray[np.float64], weights: NDArray[np.float64]) -> Any:
    """Fit the recipe's student."""
    from factory.students.base import fit_student

    if not recipe.multi:
        mass = targets.sum(axis=1)
        keep = np.flatnonzero(mass > 0)
        inputs, targets, weights = pick(inputs, keep), targets[keep] / mass[keep, None], weights[keep]
    return fit_student(
        recipe.kind, inputs, targets, weights, config=recipe.config, multi=recipe.multi, encoder=recipe.encoder
    )


def predictions_of(
    student: Any, recipe: Recipe, inputs: Any, hashes: Sequence[bytes], shape: LabelSpace, facts: Mapping[str, Any]
) -> Predictions:
    """A fitted student's predictions."""
    return from_columns(student.predict_proba(inputs), recipe.label_nos, hashes, shape, facts)


def gold_systems(
    inputs: Inputs, gold: Gold, hashes: Sequence[bytes], shape: LabelSpace, student: Predictions | None,
    config: Mapping[str, Any], progress: Progress,
) -> tuple[dict[str, Predictions], dict[str, Any] | None]:  # fmt: skip
    """`dev_only`, `full_gold` and the label-equivalents curve: the student's own recipe on gold alone.

    Args:
        inputs: What students predict on.
        gold: Of test.
        hashes: Content hashes of its texts.
        student: What the student says of test, or None.
        config: `equivalents`, `equivalents_draws`, `seed`.

    Returns:
        The systems by name, and the curve or None.
    """
    from factory.evaluation.baselines import label_equivalents
    from factory.evaluation.scoring import headline, headline_metric
    from factory.students.stored import stored_models
    from factory.warehouse.tables.gold import gold_rows, read_gold

    models = stored_models(inputs.warehouse)
    model = models.get("student") or next(iter(models.values()), None)
    if model is None:
        return {}, None
    recipe = recipe_of(model, shape.multi)
    on_test = inputs.of(recipe.vectoriser, gold.texts, progress)
    found: dict[str, Predictions] = {}
    dev = gold_rows(inputs.warehouse, "dev", "seed", labels=len(shape.names))
    if len(dev):
        texts, targets, times = gold_targets(dev.texts, dev.labels, recipe.label_nos)
        fitted = train(recipe, inputs.of(recipe.vectoriser, texts, progress), targets, times)
        found["dev_only"] = predictions_of(fitted, recipe, on_test, hashes, shape, {"gold_texts": len(texts)})
    reference = read_gold(inputs.db, "reference", len(shape.names))
    if not len(reference):
        return found, None
    texts, targets, times = gold_targets(reference.texts, reference.labels, recipe.label_nos)
    progress(0, 0, f"full gold: {len(texts)} texts")
    learned_from = inputs.of(recipe.vectoriser, texts, progress)
    fitted = train(recipe, learned_from, targets, times)
    found["full_gold"] = predictions_of(fitted, recipe, on_test, hashes, shape, {"gold_texts": len(texts)})
    if student is None or not config["equivalents"] or recipe.slow:
        return found, None

    strengths: dict[int, Any] = {}  # chosen by the first draw of each size, and kept for the other draws of that size

    def score_of(rows: Any) -> float:
        chosen = strengths.get(len(rows))
        same = recipe if chosen is None else replace(recipe, config={**recipe.config, "c": chosen})
        learned = train(same, pick(learned_from, rows), targets[rows], np.ones(len(rows)))
        strengths.setdefault(len(rows), getattr(learned.config, "c", None))
        return headline(gold, predictions_of(learned, recipe, on_test, hashes, shape, {}), shape)

    worth = label_equivalents(
        len(texts), headline(gold, student, shape), score_of,
        draws=config["equivalents_draws"], seed=config["seed"], progress=progress,
    )  # fmt: skip
    return found, None if worth is None else {**worth.as_json(), "metric": headline_metric(shape.multi)}
