"""New texts without tags are freed of what a model says around them, or refused: nothing of it becomes a training text."""

from __future__ import annotations

import json

import pytest

from factory import prompts
from factory.prompts.texts import parse_texts

TEXT = "My bike light did not come, the desk fan neither."
OTHER = "I was charged twice for the winter coat."

FREED = {
    "bare": TEXT,
    "reasoning, opened by the template": f"The user wants an account message, so I mention the fan.\n</think>\n\n{TEXT}",
    "fields": f"Text: {TEXT}\nLabel: account",
    "fields, label first": f"Label: account\nText: {TEXT}",
    "fields, bold": f"**Text:** {TEXT}\n**Label:** account",
    "fields, several": f"Message: {TEXT}\nCategory: account\nTone: angry\nExplanation: an item is missing.",
    "heading, bold": f"**Rewritten message:**\n\n{TEXT}",
    "heading, marked": f"### Message\n{TEXT}",
    "heading, both": f"## **New text**\n\n{TEXT}",
    "heading, plain": f"Rewritten text:\n{TEXT}",
    "lead": f"Rewritten text: {TEXT}",
    "lead, kind": f"Customer message: {TEXT}",
    "lead, bold": f"**Output:** {TEXT}",
    "lead, numbered": f"Example 1: {TEXT}",
    "introduction": f"Here is a customer message about delivery:\n\n{TEXT}",
    "introduction, chatty": f"Sure! Here is the rewritten message:\n\n{TEXT}",
    "introduction, quoted": f'Here is a message: "{TEXT}"',
    "introduction, quoted below": f"Certainly! Here's one:\n\n“{TEXT}”",
    "introduction, French": f"Voici le message :\n{TEXT}",
    "introduction, German": f"Hier ist der Text:\n\n{TEXT}",
    "introduction, Spanish": f"Aquí tienes un mensaje:\n{TEXT}",
    "introduction, Italian": f"Ecco il testo:\n{TEXT}",
    "closing": f"{TEXT}\n\nI hope this helps!",
    "closing, offer": f"{TEXT}\n\nLet me know if you'd like another version.",
    "fence": f"```\n{TEXT}\n```",
    "fence, text": f"```text\n{TEXT}\n```",
    "quotes": f'"{TEXT}"',
    "bold": f"**{TEXT}**",
    "bullet": f"- {TEXT}",
    "json object": json.dumps({"text": TEXT}),
    "json of another name": json.dumps({"message": TEXT}),
    "json list": json.dumps([TEXT]),
    "json list of objects": json.dumps([{"text": TEXT}]),
    "json list of objects, labelled": json.dumps([{"id": 1, "text": TEXT, "label": "account"}]),
    "json, fenced": f"```json\n{json.dumps({'texts': [TEXT]}, indent=1)}\n```",
    "stop tokens": f"{TEXT}</s><|im_end|>",
    "tag with an attribute": f'<text id="1">{TEXT}</text>',
    "tag and talk": f"Let me think about a message.\n<text>{TEXT}</text>\nThis text is about delivery. Label: delivery",
}
REFUSED = {
    "reasoning without a mark": f"The user wants an account message, so I mention the fan.\n\n{TEXT}",
    "reasoning, one line": "The user wants an account message, so I mention the fan and the light.",
    "plan": f"Okay, I need to write a message about a delivery.\n\n{TEXT}",
    "plan, let me": f"Let me think of something short.\n{TEXT}",
    "plan, passage": f"The passage talks about a fan. I should mention it.\n\n{TEXT}",
    "plan, task": "My task is to rewrite the passage as a complaint.",
    "draft and remark": f"{TEXT}\n\nWait, I should make it shorter.\n\n{OTHER}",
    "label after": f"{TEXT}\nLabel: account",
    "label after, bold": f"{TEXT}\n\n**Category:** account",
    "label before, dash": f"Category - account\n{TEXT}",
    "label in brackets": f"{TEXT} (label: account)",
    "labelled as": f"{TEXT}\n\nIt is labelled as account.",
    "explanation": f"{TEXT}\n\nThis message is about account because an item is missing.",
    "explanation, same line": f"Explanation: {TEXT}",
    "explanation, after": f"{TEXT}\n\nExplanation: an item is missing.",
    "explanation, it": f"{TEXT}\n\nIt is clearly an example of delivery.",
    "note": f"{TEXT}\n\n(Note: this is a delivery message.)",
    "note, star": f"{TEXT}\n\n*Note: I changed the names.*",
    "word count": f"{TEXT}\n\nWord count: 9",
    "several, ruled off": f"{TEXT}\n---\n{OTHER}",
    "several, headed": f"### Message 1\n{TEXT}\n\n### Message 2\n{OTHER}",
    "several, bold heads": f"**Message 1**\n{TEXT}\n\n**Message 2**\n{OTHER}",
    "several fences": f"```\n{TEXT}\n```\n\n```\n{OTHER}\n```",
    "around a reasoning": f"{OTHER}\n<think>no, better:</think>\n{TEXT}",
    "a mark of reasoning left": f"{TEXT} <|channel|>",
    "a quote that stays open": f'"{TEXT}',
    "a tag that stays open": f"<text>{TEXT}",
    "json of two texts each": json.dumps([{"text": TEXT, "message": OTHER}]),
    "json without a text": json.dumps({"label": "account"}),
    "json of lists": json.dumps({"texts": [[TEXT]]}),
    "json, cut off": '{"texts": ["My bike light did',
    "json, cut off list": '[{"text": "My bike light did',
    "offer": "Certainly! I'd be happy to help. Please provide the passage.",
    "offer, one line": "Sure, please provide the text that you want rewritten.",
    "nothing": "",
    "a tag with nothing": "<text></text>",
}
REFUSALS = (
    "I'm sorry, but I can't help with that.",
    "I’m sorry, I can’t assist with that request.",
    "I'm not able to help with that request.",
    "I'm unable to write such a text.",
    "I cannot create content that could be used for spam.",
    "I can't fulfill this request.",
    "Sorry, but I won't write this text.",
    "Unfortunately, I am unable to rewrite this passage.",
    "I must decline to write this message.",
    "As an AI language model, I cannot write this.",
    "As an AI, I do not have feelings.",
    "Es tut mir leid, aber dabei kann ich nicht helfen.",
    "Lo siento, pero no puedo ayudar con eso.",
    "抱歉，我无法帮助您。",
    "UNABLE TO REWRITE",
    "UNABLE TO WRITE: the passage has nothing of the kind.",
)
CUSTOMERS = (
    "I'm unable to log in since I bought the winter coat; the page stays blank.",
    "UNABLE TO log in since Tuesday, please fix!!!",
    "I cannot complete my order, the page is blank.",
    "I can't help but notice that the box is open.",
    "My yearly plan runs out in December. Please let it expire, I won't be renewing.",
    "Sorry, I can't answer the door when the courier comes; please leave it.",
    "Thank you for sending the fan so fast; it is lovely.",
    "Thank you for calling, here is my number: 555 0100.",
    "I am sorry to say that the parcel never came.",
    "Sure, the fan works, but it is loud.",
    "Let me know when the replacement card will arrive.",
    "Here is my problem: the app charged me twice.",
    "Of course it rained when the parcel came.",
    "I need to create a new password.",
    "I will not provide my card number by e-mail.",
    "Note that the lamp flickers, too.",
    "Feel free to call me at any time before six.",
    "I hope you can help me, my account is locked.",
    "Hier ist mein Problem: die App zeigt nichts an.",
    "Voici : mon colis n'est pas venu.",
    "First class - the courier was very kind, and the lamp was packed well.",
)


@pytest.mark.parametrize("form", FREED)
def test_a_text_is_freed_of_its_frame(form: str) -> None:
    assert parse_texts(FREED[form]) == [TEXT]


@pytest.mark.parametrize("form", REFUSED)
def test_what_may_be_talk_is_no_text(form: str) -> None:
    with pytest.raises(prompts.ParseFailure) as caught:
        parse_texts(REFUSED[form])
    assert caught.value.code in ("ambiguous", "truncated", "wrong_shape", "empty", "refusal")


@pytest.mark.parametrize("answer", REFUSALS)
def test_a_refusal_is_no_text(answer: str) -> None:
    with pytest.raises(prompts.ParseFailure) as caught:
        parse_texts(answer, refusal="UNABLE TO WRITE")
    assert caught.value.code == "refusal"


@pytest.mark.parametrize("text", CUSTOMERS)
def test_a_customer_is_no_refusing_model(text: str) -> None:
    assert (
        parse_texts(text) == parse_texts(f"<text>{text}</text>") == parse_texts(json.dumps({"texts": [text]})) == [text]
    )


def test_several_texts_are_read_from_a_numbered_list_tags_and_json() -> None:
    for answer in (
        f"1. {TEXT}\n2. {OTHER}",
        f"1) **{TEXT}**\n2) **{OTHER}**",
        f"Here are two messages:\n\n1. {TEXT}\n\n2. {OTHER}",
        f"<text>{TEXT}</text>\n\nand another:\n<text>\n{OTHER}\n</text>",
        json.dumps([{"text": TEXT}, {"text": OTHER}]),
        json.dumps({"texts": [{"text": TEXT}, {"text": OTHER}]}),
    ):
        assert parse_texts(answer) == [TEXT, OTHER], answer


def test_a_numbered_plan_is_no_list_of_texts() -> None:
    with pytest.raises(prompts.ParseFailure):
        parse_texts("1. The passage is about a fan\n2. I need to write a complaint about it")


def test_the_prompts_own_word_for_cannot_counts_outside_of_the_texts_and_at_their_beginning() -> None:
    word = "UNABLE TO WRITE"
    for answer in (f"{word}.", f"<text>{word}</text>", f"<text>{TEXT}</text>\n{word}", json.dumps({"texts": [word]})):
        with pytest.raises(prompts.ParseFailure):
            parse_texts(answer, refusal=word)
    text = "Half of them were UNABLE TO WRITE their names."
    assert parse_texts(f"<text>{text}</text>", refusal=word) == [text]
