"""`finetune`: losses that forgive, the held-out guard, windows, soups, consistency, and an export like any other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from factory.encoders.encoder import load_encoder
from factory.errors import InputError
from factory.export.spec import ExportSpec
from factory.export.write import write_export
from factory.predict.load import load_export
from factory.students import fit_student
from factory.students.finetune import FinetuneStudent, changed
from tests.models import write_tiny
from tests.topics import SUBJECTS, sentences

torch = pytest.importorskip("torch")
QUICK = {"epochs": 1, "max_steps": 2, "batch_size": 8}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random transformer of two narrow layers that reads 32 tokens, as a sentence-transformers folder."""
    return write_tiny(tmp_path_factory.mktemp("tiny"), sentences(1, 300)[0])


def test_generalized_cross_entropy_tends_to_cross_entropy_and_bounds_the_loss_of_a_wrong_label() -> None:
    from factory.students.losses import label_loss

    logits = torch.tensor([[4.0, -4.0]])
    wrong, known = torch.tensor([[0.0, 1.0]]), torch.ones(1, 2)
    for multi in (False, True):
        plain = label_loss(logits, wrong, known, multi=multi)
        assert label_loss(logits, wrong, known, multi=multi, gce=1e-3).item() == pytest.approx(plain.item(), rel=0.02)
        assert label_loss(logits, wrong, known, multi=multi, gce=1.0).item() <= (2.0 if multi else 1.0)


def test_unknown_labels_of_a_multi_task_have_no_gradient() -> None:
    from factory.students.losses import label_loss, smoothed

    logits = torch.zeros(1, 3, requires_grad=True)
    known = torch.tensor([[1.0, 0.0, 1.0]])
    targets = smoothed(torch.tensor([[1.0, 0.0, 0.0]]), known, 0.2, True)
    assert targets.tolist() == [pytest.approx([0.9, 0.0, 0.1])]
    label_loss(logits, targets, known, multi=True, gce=0.5).sum().backward()
    assert logits.grad is not None
    assert logits.grad[0, 1].item() == 0
    assert logits.grad[0, 0].item() < 0 < logits.grad[0, 2].item()


def test_early_learning_regularisation_rewards_agreeing_with_earlier_answers() -> None:
    from factory.students.losses import EarlyLearning

    known, row = torch.ones(1, 2), torch.tensor([0])
    for multi in (False, True):
        early = EarlyLearning(1, 2, strength=1.0, memory=0.5, multi=multi, device="cpu")
        for _ in range(20):
            early(row, torch.tensor([[3.0, -3.0]]), known)
        same = early(row, torch.tensor([[3.0, -3.0]]), known).item()
        assert same < early(row, torch.tensor([[-3.0, 3.0]]), known).item()


def test_consistency_counts_sure_answers_only() -> None:
    from factory.students.losses import consistency_loss

    before, after = torch.tensor([[5.0, 0.0], [0.1, 0.0]]), torch.tensor([[0.0, 5.0], [0.0, 5.0]])
    sure, unsure = consistency_loss(before, after, multi=False, confidence=0.8, sharpness=0.4).tolist()
    assert sure > 1
    assert unsure == 0


def test_a_changed_text_keeps_words_of_the_old_one() -> None:
    rng = np.random.default_rng(0)
    text = "one two three four five six seven eight"
    assert {word for _ in range(20) for word in changed(text, 0.5, rng).split()} <= set(text.split())
    assert changed("one", 0.99, rng) == "one"


@pytest.mark.parametrize(
    "switches",
    [
        {"gce": 0.7, "smoothing": 0.1},
        {"elr": 1.0},
        {"soup": 2},
        {"consistency": 1.0, "consistency_confidence": 0.0},
        {"held_out": 0.0},
    ],
)
def test_every_switch_trains_and_gives_the_same_student_again(tiny: Path, switches: dict[str, float]) -> None:
    texts, labels = sentences(1, 60)
    encoder = load_encoder(str(tiny))
    given = {"config": {**QUICK, **switches}, "encoder": encoder, "unlabelled": sentences(2, 20)[0]}
    student = fit_student("finetune", texts, np.eye(3)[labels] * 0.85 + 0.05, **given)  # type: ignore[arg-type]
    again = fit_student("finetune", texts, np.eye(3)[labels] * 0.85 + 0.05, **given)  # type: ignore[arg-type]
    probs = student.predict_proba(texts[:10])
    np.testing.assert_allclose(probs.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(again.predict_proba(texts[:10]), probs)


@pytest.mark.slow
def test_tuning_learns_what_a_frozen_random_body_cannot(tiny: Path) -> None:
    texts, labels = sentences(1, 240)
    held, gold = sentences(4, 80)
    options = {"epochs": 6, "max_steps": 90, "learning_rate": 2e-3, "c": 1.0}
    encoder = load_encoder(str(tiny))
    frozen = fit_student("embedding", texts, np.eye(3)[labels], encoder=encoder, config={"c": 1.0})
    tuned = fit_student("finetune", texts, np.eye(3)[labels], encoder=encoder, config=options)
    right = [(student.predict_proba(held).argmax(axis=1) == np.array(gold)).mean() for student in (frozen, tuned)]
    assert right[1] > 0.95 > right[0]
    assert len(tuned.trials) == 7
    losses = [loss for _, loss in tuned.trials]
    assert min(losses) < losses[0]


def test_the_untuned_start_is_kept_where_tuning_agrees_less_with_held_out_labels(tiny: Path) -> None:
    texts, labels = sentences(1, 120)
    encoder = load_encoder(str(tiny))
    student = fit_student(
        "finetune", texts, np.eye(3)[labels], encoder=encoder, config={**QUICK, "learning_rate": 1.0, "head_rate": 10.0}
    )
    losses = [loss for _, loss in student.trials]
    assert losses[0] == min(losses)
    assert isinstance(student, FinetuneStudent)
    np.testing.assert_allclose(student.predict_proba(texts).sum(axis=1), 1, atol=1e-5)


@pytest.mark.slow
@pytest.mark.long
def test_long_texts_are_tuned_and_read_by_windows_and_exported_with_parity(tiny: Path, tmp_path: Path) -> None:
    texts, labels = sentences(1, 48)
    long = [f"{text} " + "was better than last week " * 30 for text in texts[:6]]
    encoder = load_encoder(str(tiny))
    student = fit_student(
        "finetune", texts + long, np.eye(3)[labels + labels[:6]], encoder=encoder, config=QUICK
    )  # fmt: skip
    spec = ExportSpec("topics", "a sentence", {name: f"about {name}" for name in SUBJECTS}, False)
    manifest = write_export(student, None, spec, tmp_path / "export", texts[:10] + long)
    assert manifest["parity"]["fp32_max_difference_below"] <= 1e-4
    assert manifest["parity"]["sentence_transformers_max_difference_below"] <= 1e-4
    exported = load_export(tmp_path / "export", precision="fp32").predict_proba(long)
    np.testing.assert_allclose(exported, student.predict_proba(long), atol=1e-4)


def test_it_saves_without_pickle_and_loads_as_it_was(tiny: Path, tmp_path: Path) -> None:
    texts, labels = sentences(1, 30)
    multi = np.eye(3)[labels].astype(float)
    multi[0, 1] = np.nan
    student = fit_student(
        "finetune", texts, multi, multi=True, encoder=load_encoder(str(tiny)), config={**QUICK, "elr": 1.0, "gce": 0.5}
    )
    student.save(tmp_path)
    again = FinetuneStudent.load(tmp_path)
    np.testing.assert_array_equal(again.predict_proba(texts), student.predict_proba(texts))
    assert {path.suffix for path in tmp_path.rglob("*") if path.is_file()} <= {".json", ".safetensors", ".txt"}


@pytest.mark.parametrize(
    ("config", "words"),
    [({"consistency": 1.0}, "needs unlabelled texts"), ({"soup": 0}, "1 or more")],
)
def test_options_that_cannot_be_met_are_refused(tiny: Path, config: dict[str, float], words: str) -> None:
    texts, labels = sentences(1, 12)
    with pytest.raises(InputError, match=words):
        fit_student("finetune", texts, np.eye(3)[labels], encoder=load_encoder(str(tiny)), config=config)
    with pytest.raises(InputError, match="needs a sentence encoder"):
        fit_student("finetune", texts, np.eye(3)[labels])
