"""The forms in which models give the same answer: their reasoning before it, the tokens around it, the ways to state a label."""

from __future__ import annotations

import unicodedata

REASONED = {
    "think": "<think>{thought}</think>\n\n{answer}",
    "think, opened by the template": "{thought}</think>\n\n{answer}",
    "think, empty": "<think>\n\n</think>\n\n{answer}",
    "think in capitals": "<THINK>{thought}</THINK>{answer}",
    "think twice": "<think>{thought}</think><think>{thought}</think>{answer}",
    "think, opened twice": "<think><think>{thought}</think>{answer}",
    "think, its end mentioned": "<think>I close with </think> later. {thought}</think>{answer}",
    "thinking": "<thinking>\n{thought}\n</thinking>\n{answer}",
    "thinking, opened by the template": "{thought}\n</thinking>\n{answer}",
    "reasoning": "<reasoning>{thought}</reasoning>\n{answer}",
    "thought": "<thought>{thought}</thought>\n{answer}",
    "reflection": "<reflection>{thought}</reflection>\n{answer}",
    "scratchpad": "<scratchpad>{thought}</scratchpad>\n{answer}",
    "seed": "<seed:think>{thought}</seed:think>{answer}",
    "seed, opened by the template": "{thought}</seed:think>{answer}",
    "longcat": "<longcat_think>{thought}</longcat_think>{answer}",
    "mistral": "[THINK]{thought}[/THINK]{answer}",
    "mistral, opened by the template": "{thought}[/THINK]{answer}",
    "kimi": "◁think▷{thought}◁/think▷{answer}",
    "kimi, opened by the template": "{thought}◁/think▷{answer}",
    "granite": "Here is my thought process:\n{thought}\n\nHere is my response:\n{answer}",
    "granite, short": "Here's my thought process: {thought}\nHere's my response: {answer}",
    "harmony": (
        "<|channel|>analysis<|message|>{thought}<|end|><|start|>assistant<|channel|>final<|message|>{answer}<|return|>"
    ),
    "harmony, opened by the template": "{thought}<|end|><|start|>assistant<|channel|>final<|message|>{answer}",
    "harmony, with a commentary": (
        "<|channel|>analysis<|message|>{thought}<|end|><|start|>assistant<|channel|>commentary<|message|>{thought}<|end|>"
        "<|start|>assistant<|channel|>final <|constrain|>json<|message|>{answer}"
    ),
    "harmony, tokens dropped": "analysis{thought}assistantfinal{answer}",
    "cohere": "<|START_THINKING|>{thought}<|END_THINKING|><|START_RESPONSE|>{answer}<|END_RESPONSE|>",
    "openthinker": "<|begin_of_thought|>{thought}<|end_of_thought|>\n<|begin_of_solution|>{answer}<|end_of_solution|>",
    "gemma": "<|channel>thought\n{thought}<channel|>{answer}<turn|>",
    "medgemma": "<unused94>thought\n{thought}<unused95>{answer}",
    "apertus": "<|inner_prefix|>{thought}<|inner_suffix|>{answer}",
    "think and answer tags": "<think>{thought}</think>\n<answer>\n{answer}\n</answer>",
    "think and an answer tag left open": "<think>{thought}</think>\n<answer>{answer}",
    "think and response tags": "<think>{thought}</think>\n<response>{answer}</response>",
}
"""How reasoning stands before an answer. The reasoning may hold anything, drafts of the answer included."""

CUT_OFF = {
    "think": "<think>{thought}",
    "thinking": "<thinking>{thought}",
    "seed": "<seed:think>{thought}",
    "mistral": "[THINK]{thought}",
    "kimi": "◁think▷{thought}",
    "harmony": "<|channel|>analysis<|message|>{thought}",
    "harmony, ended": "<|channel|>analysis<|message|>{thought}<|end|>",
    "harmony, tokens dropped": "analysisWe look at it. {thought}",
    "granite": "Here is my thought process:\n{thought}",
    "cohere": "<|START_THINKING|>{thought}",
    "gemma": "<|channel>thought\n{thought}",
}
"""Reasoning that was cut off before the answer began."""

FRAMED = {
    "bare": "{answer}",
    "blanks": "\n\n  {answer}  \n",
    "carriage returns": "\r\n{answer}\r\n",
    "byte order mark": "\ufeff{answer}",
    "zero width": "\u200b{answer}\u200b\u2060",
    "llama": "<|start_header_id|>assistant<|end_header_id|>\n\n{answer}<|eot_id|>",
    "chatml": "<|im_start|>assistant\n{answer}<|im_end|>\n",
    "chatml, going on": "{answer}<|im_end|>\n<|im_start|>user\nAnd this one?",
    "gemma": "<start_of_turn>model\n{answer}<end_of_turn>",
    "end of sequence": "{answer}</s>",
    "ends of sequence": "{answer}</s></s> </s>",
    "start of sequence": "<s> {answer} </s>",
    "end of text": "{answer}<|endoftext|>",
    "mistral": "[/INST] {answer}</s>",
    "deepseek": "{answer}<｜end▁of▁sentence｜>",
    "padding": "{answer}<pad><pad>",
    "phi": "{answer}<|end|>",
}
"""Tokens and blanks around an answer."""


def decomposed(text: str) -> str:
    return unicodedata.normalize("NFD", text)


STATED = {
    "bare": "{0}",
    "full stop": "{0}.",
    "exclamation": "{0}!",
    "quotes": '"{0}"',
    "single quotes": "'{0}'",
    "curly quotes": "“{0}”",
    "angle quotes": "«{0}»",
    "backticks": "`{0}`",
    "bold": "**{0}**",
    "italic": "*{0}*",
    "bold, quoted, full stop": '**"{0}"**.',
    "square brackets": "[{0}]",
    "round brackets": "({0})",
    "angle brackets": "<{0}>",
    "bullet": "- {0}",
    "heading": "## {0}",
    "quoted line": "> {0}",
    "label tag": "<label>{0}</label>",
    "answer tag": "<answer>{0}</answer>",
    "answer tag, lines": "<answer>\n{0}\n</answer>",
    "category tag": "<category>{0}</category>",
    "boxed": "\\boxed{{{0}}}",
    "boxed text": "$\\boxed{{\\text{{{0}}}}}$",
    "field": "Label: {0}",
    "field, fullwidth": "Label：{0}",
    "field, bold name": "**Label:** {0}",
    "field, all bold": "**Label: {0}**",
    "field, answer": "Answer: {0}.",
    "field, final": "Final answer: {0}",
    "field, category": "Category: **{0}**",
    "field, assistant": "Assistant: {0}",
    "field, equals": "label = {0}",
    "field, arrow": "Label → {0}",
    "sentence": "The label is {0}.",
    "sentence, quoted": 'The correct label is "{0}".',
    "sentence, best": "The best label for this text is: {0}",
    "sentence, so": "So, the final answer is {0}.",
    "sentence, classified": "This text should be classified as {0}.",
    "sentence, would": "I would label this as **{0}**.",
    "preamble": "Sure!\n\n{0}",
    "preamble, long": "Certainly. Here is the answer:\n\n{0}",
    "closing": "{0}\n\nLet me know if you need anything else.",
    "fence": "```\n{0}\n```",
    "fence, text": "```text\n{0}\n```",
    "json": '{{"label": "{0}"}}',
    "json, lines": '{{\n  "label": "{0}"\n}}',
    "json, fenced": '```json\n{{"label": "{0}"}}\n```',
    "json, fenced lines": '```json\n{{\n  "label": "{0}",\n  "reason": "it says so"\n}}\n```',
    "json, amid words": 'Here is the result:\n{{"label": "{0}"}}\nDone.',
    "json, fenced amid words": 'Here is the result:\n```json\n{{\n "label": "{0}"\n}}\n```\nDone.',
    "json, other key": '{{"classification": "{0}"}}',
    "json, capital key": '{{"Label": "{0}"}}',
    "json, list": '["{0}"]',
    "json, list in an object": '{{"labels": ["{0}"]}}',
    "json, list of an object": '[{{"label": "{0}"}}]',
    "json, nested": '{{"result": {{"label": "{0}"}}}}',
    "json, trailing comma": '{{"label": "{0}",}}',
    "json, string": '"{0}"',
    "python, single quotes": "{{'label': '{0}'}}",
    "reason after": "{0}\nReason: the writer says so in as many words.",
    "reason before": "Reasoning: the writer says so.\nLabel: {0}",
}
"""Ways to state a label. All of them must be read, whatever the label is called."""
