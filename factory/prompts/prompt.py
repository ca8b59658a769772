"""`load` a prompt by name; a `Prompt` renders requests and reads their answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from factory.errors import InputError
from factory.llm.request import Message, ModelRef, ParseFailure, Request
from factory.prompts import files, render
from factory.prompts.cues import cue_lines, parse_cues
from factory.prompts.files import Form, PromptFile, PromptState
from factory.prompts.labels import parse_label, parse_labels
from factory.prompts.parse import parse_chat, parse_json, parse_program
from factory.prompts.texts import parse_texts

if TYPE_CHECKING:
    import dspy

NULL_TEXTS = ("N/A", "[MASK]", "-")
"""Texts without content, for contextual calibration (Zhao et al. 2021, "Calibrate Before Use", section 5)."""

_LOADED: WeakValueDictionary[str, Prompt] = WeakValueDictionary()
"""By version: equal content gives the same object."""

_LONGEST_ECHO = 8000
_LONGEST_WORDS = 1000


class Prompt:
    """One prompt: instructions, inputs, an output, and the state that an optimiser left beside it.

    Attributes:
        name: As in `prompts/NAME.md`.
        version: 16 hexadecimal digits over the file and its optimised state; a change of either is a new version.
        form: What an answer is.
    """

    def __init__(self, file: PromptFile, state: PromptState | None, version: str) -> None:
        """Use `load`."""
        self.file, self.state, self.version = file, state, version
        self.name: str = file.name
        self.form: Form = file.form

    @property
    def instructions(self) -> str:
        """The optimiser's instructions if there are any, else the body of the file."""
        return (self.state.instructions if self.state else None) or self.file.instructions

    @property
    def by_label(self) -> bool:
        """Whether an answer is a list for each label."""
        return self.form == "cues"

    def signature(self) -> type[dspy.Signature]:
        """The DSPy signature, for any DSPy program or optimiser; needs dspy."""
        from factory.prompts.signature import make_signature

        return make_signature(self.file, self.instructions)

    def adapter(self, *, labels: Sequence[str] | None = None, structured: bool = False) -> dspy.Adapter:
        """The DSPy adapter that renders and reads as the stages do, for `dspy.context(adapter=...)`; needs dspy.

        `labels` are the names that an answer may give; `structured` is for models that answer in the structured form.
        """
        from factory.prompts.signature import make_adapter

        return make_adapter(self.file, partial(self.chat, structured=structured), partial(self.parse, labels=labels))

    def messages(
        self, values: Mapping[str, Any], demos: Sequence[Mapping[str, Any]] = (), *, structured: bool = False
    ) -> tuple[Message, ...]:
        """The chat: instructions and what requests share first, demonstrations as turns, what varies last.

        Args:
            values: A value for each input; None or empty leaves an optional one out.
            demos: Demonstrations: values of the inputs that vary, and of the output. They follow those of the optimised state.
            structured: Whether the answer will be forced into the structured form.

        Raises:
            InputError: An input is unknown, missing, or does not fit its kind.
        """
        unknown = sorted(set(values) - set(self.file.inputs))
        if unknown:
            fix = f"Its inputs are {', '.join(self.file.inputs)}"
            raise InputError(f"prompt {self.name!r} has no input `{unknown[0]}`", fix=fix)
        for name, spec in self.file.inputs.items():
            if not spec.optional and values.get(name) is None:
                raise InputError(f"prompt {self.name!r} needs a value for `{name}`")
        every = [*(self.state.demos if self.state else ()), *demos]
        return self.chat(self.instructions, values, every, structured=structured)

    def chat(
        self, instructions: str, values: Mapping[str, Any], demos: Sequence[Mapping[str, Any]], *, structured: bool
    ) -> tuple[Message, ...]:
        """The chat under any instructions, with these demonstrations alone (those without an output are left out)."""
        blocks = partial(render.blocks, self.file)
        turns = [Message(role="system", content="\n\n".join([instructions.strip(), *blocks(values, shared=True)]))]
        for demo in demos:
            if (shown := demo.get(self.file.output.name)) is not None:
                said = render.output(self.form, shown, structured=structured)
                turns.append(Message(role="user", content="\n\n".join(blocks(demo, shared=False))))
                turns.append(Message(role="assistant", content=said))
        last = [*blocks(values, shared=False), render.reminder(self.file, structured=structured)]
        turns.append(Message(role="user", content="\n\n".join(part for part in last if part)))
        return tuple(turns)

    def request(
        self,
        values: Mapping[str, Any],
        model: ModelRef,
        *,
        sampling: Mapping[str, Any] | None = None,
        structured: bool = False,
        labels: Sequence[str] | None = None,
        demos: Sequence[Mapping[str, Any]] = (),
    ) -> Request:
        """The whole request; `values` and `demos` as for `messages`.

        Args:
            model: Whom to ask.
            sampling: Over the prompt's own; a value of None takes a setting away.
            structured: Force the answer into the structured form.
            labels: The names that an answer may give, for the structured form.
        """
        merged = {**self.file.sampling, **(sampling or {})}
        return Request(
            model=model, messages=self.messages(values, demos, structured=structured),
            sampling={name: value for name, value in merged.items() if value is not None},
            schema=self.schema(labels) if structured else None, prompt=self.name, prompt_version=self.version,
        )  # fmt: skip

    def schema(self, labels: Sequence[str] | None = None) -> Mapping[str, Any]:
        """The structured form: `{"choice": [...]}` for one label, `{"regex": ...}` for cues, `{"json": {...}}` for all others.

        Raises:
            InputError: The form needs labels and there are none.
        """
        if self.form in ("label", "labels", "cues") and not labels:
            raise InputError(f"the structured form of prompt {self.name!r} needs the names of the labels")
        names, word = list(labels or ()), self.file.abstain
        if self.form == "label":
            return {"choice": names if word is None or word in names else [*names, word]}
        if self.form == "cues":
            return {"regex": cue_lines(names)}
        if self.file.json_schema is not None:
            return dict(_with_labels(self.file.json_schema, names, self.name))
        if self.form == "labels":
            return _list_schema("labels", {"type": "string", "enum": names}, least=0, most=len(names))
        limit = min(4000, 4 * int(self.file.sampling.get("max_tokens", 500)))
        return _list_schema("texts", {"type": "string", "minLength": 1, "maxLength": limit}, least=1, most=16)

    def parse(self, text: str, *, labels: Sequence[str] | None = None) -> Any:
        """The value of an answer: a label or None, a list of labels, Python source, a list of texts, a dict, or words.

        Raises:
            ParseFailure: It cannot be read as what was asked for.
        """
        if self.form in ("label", "labels", "cues") and not labels:
            raise InputError(f"to read an answer to prompt {self.name!r}, the names of the labels are needed")
        if self.form == "label":
            return parse_label(text, labels or (), abstain=self.file.abstain)
        if self.form == "labels":
            return parse_labels(text, labels or ())
        if self.form == "program":
            return parse_program(text)
        if self.form == "texts":
            return parse_texts(text, refusal=self.file.refusal)
        if self.form == "cues":
            return parse_cues(text, labels or ())
        if self.form == "json":
            given = self.file.json_schema or {"json": {"type": "object"}}
            return parse_json(text, _with_labels(given, list(labels or ()), self.name)["json"])
        return parse_chat(text)

    def ask_again(self, request: Request, answer: str, failure: ParseFailure) -> Request:
        """The same chat, the answer, and what was wrong with it in our own words. A request of its own.

        Args:
            request: The request that was answered; if it was itself a second asking, the chat grows.
            answer: The answer; beyond 8,000 characters its middle is left out.
            failure: What is wrong, from a parser or from a caller's own check. Its words may quote a text of the corpus or the
                model's own answer, so they are neutralised and cut like these.
        """
        last = render.reminder(self.file, structured=request.schema is not None)
        fault = render.neutral(render.clip(failure.words.strip(), _LONGEST_WORDS))
        words = f"That answer cannot be used. {fault}\n\nAnswer again, in full. {last}".strip()
        echo, half = render.neutral_turns(answer.strip()), _LONGEST_ECHO // 2
        if len(echo) > _LONGEST_ECHO:
            echo = f"{echo[:half]}\n[...]\n{echo[-half:]}"
        said = (Message(role="assistant", content=echo or "(nothing)"), Message(role="user", content=words))
        return replace(request, messages=(*request.messages, *said), prompt=self.name, prompt_version=self.version)


def load(name: str, *, folder: Path | None = None, profile: str | None = None) -> Prompt:
    """The prompt of that name, with the optimised state beside it.

    Args:
        name: `annotate`, `author_program`, ...; `names()` lists them.
        folder: Looked at before the shipped prompts; by default the folder named in `LABEL_FACTORY_PROMPTS`, if any.
        profile: Of an engine: where there is a prompt `NAME_PROFILE`, it is that one.

    Raises:
        InputError: There is none, or its file is wrong.
    """
    if profile is not None and f"{name}_{profile}" in files.names(folder):
        name = f"{name}_{profile}"
    file, state, version = files.read(name, folder)
    return _LOADED.setdefault(version, Prompt(file, state, version))


def _list_schema(key: str, item: Mapping[str, Any], *, least: int, most: int) -> dict[str, Any]:
    array = {"type": "array", "items": dict(item), "minItems": least, "maxItems": most}
    return {"json": {"type": "object", "properties": {key: array}, "required": [key], "additionalProperties": False}}


def _with_labels(node: Any, labels: list[str], name: str) -> Any:
    """The schema with the names of the labels in place of `enum: labels`."""
    if isinstance(node, Mapping):
        if node.get("enum") == "labels":
            if not labels:
                raise InputError(f"prompt {name!r} needs the names of the labels")
            return {**node, "enum": labels}
        return {key: _with_labels(value, labels, name) for key, value in node.items()}
    if isinstance(node, list):
        return [_with_labels(value, labels, name) for value in node]
    return node
