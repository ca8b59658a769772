"""What a request costs by the number of labels: tokens of rendered prompts, beside prompts that show every label.

    python tests/benchmarks/many_labels.py [--quick] [--only REGEX]

`text/N`: tokens that ask for the label of a text, with the candidates that it is shown, of a card of N labels (ESCO skills, the
first N of a seeded order; texts of `skill_tech`); `wide` is a text of the audit slice, which sees up to a hundred. `label/N`:
tokens that a label costs before any text is asked about: a request for new texts of it, and its share of a list of rules for a
group of labels. Labels are found by words alone here, which changes which of them a prompt shows, and hardly its length. Tokens
are estimated: one for every four bytes. --quick leaves out 13,896 labels.
"""

from __future__ import annotations

import statistics
from typing import Any

import numpy as np
from _harness import Options, case, main, row
from students_data import Rows, table

SIZES = (20, 77, 150, 1_000, 13_896)
SAMPLE = 40
"""Texts and labels that prompts are rendered for."""


def _card(options: Options, size: int) -> Any:
    from factory.task import load_card

    columns = table(str(options.data / "skill_esco_labels"), "train")
    names = list(dict.fromkeys(" ".join(text.split()) for text in columns["text"]))
    order = np.random.default_rng(0).permutation(len(names))[:size]
    labels = [{"name": names[at], "description": names[at]} for at in order]
    return load_card({"name": "skills", "text": "a sentence of a job advertisement", "labels": labels})


def per_text(size: int, options: Options) -> Rows:
    """Tokens that a text costs, beside those of a prompt with all labels."""
    from factory import prompts
    from factory.labels.candidates import SHOWN, WIDE, is_large
    from factory.labels.index import LabelIndex
    from factory.llm.request import ModelRef, estimate_prompt_tokens, estimate_tokens
    from factory.prompts.labelling import Labelling, labelling_prompt

    card = _card(options, size)
    texts = table(str(options.data / "skill_tech"), "test")["text"][:SAMPLE]
    among, whole = (
        Labelling(card, prompts.load(labelling_prompt(card, among=many)), ModelRef("any")) for many in (True, False)
    )
    index = LabelIndex(card.labels, None)

    def tokens(asking: Labelling, text: str, shown: Any = None) -> int:
        only = None if shown is None else [card.labels[at].name for at in shown]
        return estimate_prompt_tokens(asking.request(text, only).messages)

    longer = statistics.mean(map(estimate_tokens, texts)) - estimate_tokens(texts[0])
    everything = tokens(whole, texts[0]) + longer
    if not is_large(card):
        return [row(f"text/{size}", round(statistics.mean(tokens(whole, text) for text in texts)), round(everything),
                    peer_name="all labels shown", unit="tokens", smaller_is_better=True)]  # fmt: skip
    few, wide = (
        statistics.mean(
            tokens(among, text, some) for text, some in zip(texts, index.candidates(texts, count), strict=True)
        )
        for count in (SHOWN, WIDE)
    )
    return [row(f"text/{size}", round(few), round(everything), peer_name="all labels shown", unit="tokens",
                smaller_is_better=True, wide=round(wide), texts=len(texts))]  # fmt: skip


def per_label(size: int, options: Options) -> Rows:
    """Tokens that a label costs before texts are asked about, beside those of prompts with all labels."""
    from factory import prompts
    from factory.labels.candidates import SHOWN, is_large
    from factory.labels.index import LabelIndex
    from factory.llm.request import ModelRef, estimate_prompt_tokens
    from factory.programs.author.many import GROUP
    from factory.prompts.card import card_values, writing_values

    card, model = _card(options, size), ModelRef("any")
    index, names = LabelIndex(card.labels, None), card.label_names
    write, author = prompts.load("write_example"), prompts.load("author_rule_list")
    some = names[:SAMPLE]
    ranked = [[names[at] for at in order[: SHOWN + 1]] for order in index.ranked(some)]
    near = {
        name: [other for other in order if other != name][: SHOWN - 1] for name, order in zip(some, ranked, strict=True)
    }

    def tokens(name: str, shown: list[str]) -> float:
        values = {
            key: value for key, value in writing_values(card, name, beside=shown).items() if key in write.file.inputs
        }
        texts = write.request({**values, "count": "5"}, model)
        rules = author.request({**card_values(card, [name, *shown]), "approach": "Words of a group of labels."}, model)
        return estimate_prompt_tokens(texts.messages) + estimate_prompt_tokens(rules.messages) / GROUP

    everything = tokens(names[0], names[1:])
    ours = statistics.mean(tokens(name, near[name] if is_large(card) else names) for name in some)
    return [row(f"label/{size}", round(ours), round(everything), peer_name="all labels shown", unit="tokens",
                smaller_is_better=True, labels=len(some))]  # fmt: skip


for _size in SIZES:
    for _name, _measure in (("text", per_text), ("label", per_label)):

        def _case(options: Options, size: int = _size, measure: Any = _measure) -> Rows:
            return [] if options.quick and size > 1_000 else measure(size, options)

        case(f"{_name}/{_size}")(_case)


if __name__ == "__main__":
    main(__doc__)
