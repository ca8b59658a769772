from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factory.near import NearIndex, jaccard, shingles
from factory.synthesis import filters

REAL = [
    "Oil prices rose above 50 dollars a barrel on Tuesday after a storm shut platforms in the Gulf of Mexico.",
    "The central bank left interest rates unchanged and said that growth would slow in the coming quarter.",
    "Shares of the airline fell sharply after it warned of a larger loss and announced further job cuts.",
    "The retailer said that sales in stores open at least a year had grown by three percent in September.",
]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("I'm sorry, but I can't help with that.", "refusal"),
        ("As an AI language model I have no opinion on football.", "refusal"),
        ("UNABLE TO REWRITE", "refusal"),
        ("Sure! Here is the text you wanted about oil.", "boilerplate"),
        ("Here are three examples: oil, gas, coal", "boilerplate"),
        ("Text 1: Oil rises again", "boilerplate"),
        ("Shares of [Company Name] fell on Monday after a warning", "placeholder"),
        ("...!!!", "unreadable"),
        ("Oil.", "too_short"),
        ("Oil rose again. " * 60, "too_long"),
        (
            "Die Ölpreise sind am Dienstag erneut deutlich gestiegen, weil ein Sturm im Golf von Mexiko wütet.",
            "language",
        ),
    ],
)
def test_what_is_no_text_of_the_corpus_is_dropped_with_its_reason(text: str, reason: str) -> None:
    check = filters.text_filters(bounds=filters.length_bounds(REAL), expected=filters.expected_language(REAL))
    verdict = check(text, None)
    assert verdict is not None
    assert verdict[0] == reason


CUSTOMERS = (
    "I'm unable to log in since I bought the winter coat; the page with the form stays blank.",
    "My yearly plan runs out in December. Please let it expire, I won't be renewing.",
    "Thank you for sending the desk fan so fast; it is lovely and quiet.",
    "I am sorry to say that the parcel never came. Let me know if you need the number.",
    "I hope this helps others: the charger gets hot. Feel free to call me.",
    "Of course it rained on the day the parcel came. Here is my number: 555 0100.",
    "Love you xxx see you at 6 xx",
    "Oh, [NAME]... call me, my number ends in XXXX.",
    "Sure hope the fan comes soon, I certainly cannot complete the room without it.",
    "Note: the lamp flickers. Answer: send a new one.",
)


@pytest.mark.parametrize("text", CUSTOMERS)
def test_what_customers_say_passes(text: str) -> None:
    assert filters.text_filters(labels=("praise", "delivery"))(text, None) is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("My parcel never came.\nLabel: delivery", "label_field"),
        ("**Category:** Praise\nThe fan is lovely.", "label_field"),
        ("The fan is lovely.\nSentiment = praise.", "label_field"),
        ("The fan is lovely.\nTopic: fans", None),
        ("Category - delivery\nMy parcel never came.", "label_field"),
        ("My parcel never came.\n\n(delivery)", "label_field"),
        ("My parcel never came. [Delivery].", "label_field"),
        ("My parcel never came. (label: delivery)", "label_field"),
        ("[delivery] My parcel never came.", "label_field"),
        ("**Delivery**: My parcel never came.", "label_field"),
        ("delivery: My parcel never came.", "label_field"),
        ("My parcel never came. #delivery #late", "label_field"),
        ("Voici le message :\nMon colis n'est jamais venu.", "boilerplate"),
        ("Hier ist der Text:\nMein Paket kam nie an.", "boilerplate"),
        ("Aquí tienes un mensaje:\nMi paquete no llegó.", "boilerplate"),
        ("Ecco il testo:\nIl pacco non è arrivato.", "boilerplate"),
        ("Voici mon problème :\nmon colis n'est jamais venu.", None),
        ("Hier ist der Text falsch: er passt nicht.", None),
        ("The parcel (delivery) never came, see page (1)", None),
        ("Delivery - it took ten days, and praise: there is none.", None),
        ("My delivery: ten days late.", None),
        ("Ten days late #delivery and no praise", None),
        ("Delivery:10 days", None),
        ("The label: it came off. Delivery was quick.", None),
        ("Dear [Company Name], the fan is lovely.", "placeholder"),
        ("Dear [insert name here], the fan is lovely.", "placeholder"),
        ("Dear {{customer_name}}, the fan is lovely.", "placeholder"),
        ("Hello <text>, the fan is lovely.", "placeholder"),
    ],
)
def test_a_label_as_a_field_and_a_blank_to_be_filled_in_are_dropped(text: str, reason: str | None) -> None:
    verdict = filters.text_filters(labels=("praise", "delivery"))(text, None)
    assert (None if verdict is None else verdict[0]) == reason


def test_numbers_and_single_letters_that_are_labels_mark_nothing() -> None:
    check = filters.text_filters(labels=("1", "2", "C"))
    assert (
        check("It was seen on page (1)", None)
        is check("1: the lamp flickers", None)
        is check("All mine (c)", None)
        is None
    )


@pytest.mark.parametrize(
    "text", [*REAL, "Sorry season ends: the Reds lose again, and their manager says that nobody can be sure of a job."]
)
def test_real_texts_pass(text: str) -> None:
    check = filters.text_filters(bounds=filters.length_bounds(REAL), expected=filters.expected_language(REAL))
    assert check(text, None) is None


def test_a_copy_of_the_passage_is_told_from_a_rewriting() -> None:
    passage = REAL[0]
    assert filters.copy_of_passage(passage.replace("Tuesday", "Monday"), passage) is not None
    assert (
        filters.copy_of_passage("Crude climbed past the 50 dollar mark as a hurricane stopped work offshore.", passage)
        is None
    )


def test_noise_words_are_the_tasks_own() -> None:
    check = filters.text_filters(noise_words=["therefore"])
    verdict = check("We conclude, THEREFORE, that it is so.", None)
    assert verdict == ("noise", "therefore")


def test_every_reason_that_is_given_is_declared() -> None:
    assert list(filters.count_reasons(["surplus", "refusal", None, "refusal"]).items()) == [
        ("refusal", 2),
        ("surplus", 1),
    ]
    assert len(set(filters.ORDER)) == len(filters.ORDER)


WORDS = st.lists(
    st.sampled_from(
        [
            "oil",
            "gas",
            "coal",
            "wind",
            "rises",
            "falls",
            "again",
            "on",
            "fears",
            "of",
            "war",
            "and",
            "peace",
            "in",
            "june",
        ]
    ),
    min_size=6,
    max_size=14,
)


@settings(max_examples=60, deadline=None)
@given(st.lists(WORDS, min_size=1, max_size=8), WORDS)
def test_the_index_finds_what_comparing_with_all_finds(texts: list[list[str]], query: list[str]) -> None:
    index = NearIndex((str(at), " ".join(words)) for at, words in enumerate(texts))
    wanted = {
        str(at): jaccard(shingles(" ".join(words)), shingles(" ".join(query)))
        for at, words in enumerate(texts)
        if jaccard(shingles(" ".join(words)), shingles(" ".join(query))) >= index.threshold
    }
    assert dict(index.find_all(" ".join(query))) == wanted
