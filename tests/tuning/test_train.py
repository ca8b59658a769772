from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factory.errors import EngineError, InputError
from factory.tuning.pairs import Example, Pair, balanced
from factory.tuning.tokens import NO_LOSS, encode, turns
from factory.tuning.train import Recipe, collate, mean_loss, train_adapter

QUICK = Recipe(rank=8, epochs=4, rate=2e-2, batch=4, dropout=0.0)


def test_prompt_tokens_carry_no_loss_and_the_completion_and_its_end_do(tiny: Path, pairs: list[Pair]) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny)
    for pair in pairs[:4]:
        encoded = encode(tokenizer, pair)
        prompt = tokenizer.apply_chat_template(list(pair.messages), tokenize=False, add_generation_prompt=True)
        before = tokenizer(prompt, add_special_tokens=False)["input_ids"]
        assert list(encoded.ids[: len(before)]) == before
        assert set(encoded.labels[: len(before)]) == {NO_LOSS}
        assert encoded.labels[len(before) :] == encoded.ids[len(before) :]
        assert tokenizer.decode(encoded.ids[len(before) :]) == pair.completion + tokenizer.eos_token
        assert encoded.completion_tokens == len(encoded.ids) - len(before)


def test_the_loss_is_that_of_the_completions_alone(tiny: Path, pairs: list[Pair]) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny)
    model = AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float32).eval()
    encoded = [encode(tokenizer, pair) for pair in pairs[:5]]
    batch = collate(encoded, tokenizer.pad_token_id)
    logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    logits.retain_grad()
    own = []
    for row, one in enumerate(encoded):
        logprobs = torch.log_softmax(logits[row].float(), -1)
        own += [-logprobs[at - 1, one.ids[at]] for at in range(len(one.ids)) if one.labels[at] != NO_LOSS]
    by_hand = torch.stack(own).mean()
    theirs = model.loss_function(logits, batch["labels"], vocab_size=model.config.vocab_size)
    assert theirs.item() == pytest.approx(by_hand.item(), rel=1e-5)
    assert mean_loss(model, encoded, pad=tokenizer.pad_token_id, batch=2) == pytest.approx(by_hand.item(), rel=1e-4)
    theirs.backward()
    for row, one in enumerate(encoded):
        moved = logits.grad[row].abs().sum(-1) > 0
        wanted = [at + 1 < len(one.labels) and one.labels[at + 1] != NO_LOSS for at in range(logits.shape[1])]
        assert moved.tolist() == wanted


def test_training_lowers_the_loss_and_leaves_safetensors_alone(tiny: Path, pairs: list[Pair], tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    found = train_adapter(
        str(tiny), pairs, tmp_path / "a", QUICK, progress=lambda done, total, what: told.append((done, total))
    )
    assert found.loss[-1] < 0.5 * found.loss[0]
    assert len(found.loss) == 1 + QUICK.epochs
    assert (len(found.trained), found.watched) == (18, "held_out")
    assert told[-1] == (found.steps, found.steps)
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_the_same_training_gives_the_same_weights(tiny: Path, pairs: list[Pair], tmp_path: Path) -> None:
    recipe = Recipe(rank=2, epochs=1, batch=4)
    first, second = (train_adapter(str(tiny), pairs[:8], tmp_path / name, recipe) for name in "ab")
    assert first.weights == second.weights
    assert (
        train_adapter(str(tiny), pairs[:8], tmp_path / "c", Recipe(rank=2, epochs=1, batch=4, seed=1)).weights
        != first.weights
    )


def test_a_training_that_is_cut_off_leaves_nothing_and_what_was_there(
    tiny: Path, pairs: list[Pair], tmp_path: Path
) -> None:
    def cut(done: int, total: int, what: str) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_adapter(str(tiny), pairs, tmp_path / "a", QUICK, progress=cut)
    assert list(tmp_path.iterdir()) == []


def test_long_pairs_are_left_out_and_never_cut(tiny: Path, pairs: list[Pair], tmp_path: Path) -> None:
    long = Pair(({"role": "user", "content": "the quick brown fox " * 60},), "sports")
    recipe = Recipe(rank=2, epochs=1, batch=8, max_tokens=120)
    found = train_adapter(str(tiny), [long, *pairs[:5]], tmp_path / "a", recipe)
    assert found.too_long == (0,)
    assert (found.trained, found.watched) == ((1, 2, 3, 4, 5), "training")
    with pytest.raises(InputError, match="no pair fits into 120 tokens"):
        train_adapter(str(tiny), [long], tmp_path / "b", recipe)


def test_what_cannot_be_trained_is_said_in_one_line(tiny: Path, pairs: list[Pair], tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="the model cannot be loaded"):
        train_adapter(str(tmp_path / "nowhere"), pairs, tmp_path / "a", QUICK)
    with pytest.raises(InputError, match="does not fit the model"):
        train_adapter(str(tiny), pairs, tmp_path / "a", Recipe(targets=("no_such_layer",)))
    with pytest.raises(InputError, match="no pairs"):
        train_adapter(str(tiny), [], tmp_path / "a", QUICK)


class Template:
    """As much of a tokenizer as a chat template needs."""

    def __init__(self, before: str, turn: str, eos: str = "<|im_end|>") -> None:
        self.before, self.turn, self.eos_token = before, turn, eos

    def apply_chat_template(self, chat, tokenize, add_generation_prompt=False, **given):  # type: ignore[no-untyped-def]
        last = chat[-1]["content"] if chat[-1]["role"] == "assistant" else None
        asked = f"<u>{chat[0]['content']}</u>"
        if last is None:
            return asked + (self.before.format(**given) if add_generation_prompt else "")
        return asked + self.turn.format(last, **given)


@pytest.mark.parametrize(
    ("template", "given", "wanted"),
    [
        (Template("<a>", "<a>{}<|im_end|>\n"), {}, ("<u>hi</u><a>", "pets<|im_end|>")),
        (Template("<a>", "<a>{}"), {}, ("<u>hi</u><a>", "pets<|im_end|>")),  # a template without an end of turn
        (Template("<a>", "<a>{}<|eot|>"), {}, ("<u>hi</u><a>", "pets<|eot|>")),  # another end than the tokenizer's
        (
            Template("<a>", "<b>{}</b>"),
            {},
            ("<u>hi</u><a>", "pets<|im_end|>"),
        ),  # another beginning than it prompts with
        (Template("<a {think}>", "<a {think}>{}<|im_end|>"), {"think": "no"}, ("<u>hi</u><a no>", "pets<|im_end|>")),
    ],
)
def test_the_completion_ends_as_the_template_ends_a_turn(
    template: Template, given: dict[str, str], wanted: tuple[str, str]
) -> None:
    pair = Pair(({"role": "user", "content": "hi"},), "pets")
    assert turns(template, pair, template=given) == wanted


def test_a_template_that_changes_answers_is_refused() -> None:
    with pytest.raises(EngineError, match="does not show an assistant's answer"):
        turns(Template("<a>", "<a>...<|im_end|>"), Pair(({"role": "user", "content": "hi"},), "pets"))


@settings(max_examples=50, deadline=None)
@given(labels=st.lists(st.sampled_from("abc"), max_size=30))
def test_every_label_is_cut_to_the_rarest_and_nothing_is_lost(labels: list[str]) -> None:
    every = [Example(at, at, "", label) for at, label in enumerate(labels)]
    kept, left = balanced(every, ["a", "b", "c", "d"])
    counts = {label: sum(one.label == label for one in kept) for label in set(labels)}
    assert len(set(counts.values())) <= 1
    assert sorted(one.synthetic_no for one in (*kept, *left)) == list(range(len(labels)))
    if labels:
        assert set(counts.values()) == {min(labels.count(label) for label in set(labels))}


def test_a_recipe_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Recipe(epochs=0)
    with pytest.raises(ValueError, match="below 1"):
        Recipe(held_out=1.0)
