"""What stands in a prompt file and in the optimised state beside it."""

from __future__ import annotations

import difflib
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from factory.errors import InputError
from factory.names import plain_name
from factory.resources import shipped
from factory.yaml_reader import parse_yaml

Form = Literal["label", "labels", "program", "texts", "json", "cues", "chat"]
"""What an answer is: one label name, several, a Python program, one or more texts, a JSON object, a line of words and phrases for
each label, or free text."""

FOLDER_VARIABLE = "LABEL_FACTORY_PROMPTS"
"""Environment variable that names a folder of prompts and states to be looked at before the shipped ones."""


class FieldSpec(BaseModel):
    """One input of a prompt.

    Attributes:
        title: The heading under which it is shown.
        kind: `plain` text of ours or the user's, `list` of such, `labels`; or corpus text: `text`, `texts`, `numbered`
            (texts with their numbers, from 1), `labelled` (texts with their right labels). Corpus text is delimited and
            neutralised.
        shared: Shown in the system message, before what varies, so that requests share a long prefix.
        optional: Left out when it is missing or empty.
        tag: The delimiter of corpus text.
        max_chars: Corpus text beyond this many characters is cut at a blank.
        choices: Words that stand for longer texts (`keywords` for the sentence that asks for them).
        description: For DSPy's optimisers and for readers of the file.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    title: str
    kind: Literal["plain", "list", "labels", "text", "texts", "numbered", "labelled"] = "plain"
    shared: bool = False
    optional: bool = False
    tag: str = Field(default="text", pattern=r"^[a-z]+$")
    max_chars: int | None = Field(default=None, ge=20)
    choices: Mapping[str, str] = Field(default_factory=dict)
    description: str = ""


class OutputSpec(BaseModel):
    """What the answer is called and means."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    description: str = ""


class PromptFile(BaseModel):
    """The front matter of `prompts/NAME.md`, and its body as `instructions`.

    Attributes:
        abstain: The word with which the model abstains (form `label`), or None where it must choose.
        refusal: The words by which the model says that it cannot (form `texts`).
        reminder: The last line of the request: what to answer with.
        json_schema: The structured-output form where the form alone does not give it; `enum: labels` in it stands for the
            names of the labels.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)
    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    form: Form
    inputs: Mapping[str, FieldSpec] = Field(min_length=1)
    output: OutputSpec
    reminder: str = ""
    abstain: str | None = None
    refusal: str | None = None
    sampling: Mapping[str, Any] = Field(default_factory=dict)
    json_schema: Mapping[str, Any] | None = Field(default=None, alias="schema")
    instructions: str = Field(min_length=1)

    @property
    def signature_output(self) -> str:
        """What the output is called in DSPy, where an input cannot have the same name."""
        return "answer" if self.output.name in self.inputs else self.output.name

    @field_validator("inputs", mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        """`field: description` is short for a plain field titled by its name."""
        if not isinstance(value, Mapping):
            return value
        return {
            name: {"title": name.replace("_", " ").capitalize(), "description": spec} if isinstance(spec, str) else spec
            for name, spec in value.items()
        }


class PromptState(BaseModel):
    """What an optimiser found: better instructions, demonstrations, or both."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    instructions: str | None = None
    demos: Sequence[Mapping[str, Any]] = ()


def names(folder: Path | None = None) -> list[str]:
    """The names of all prompts that can be loaded, sorted."""
    return sorted({path.stem for place in _places(folder) for path in place.glob("*.md")})


def read(name: str, folder: Path | None = None) -> tuple[PromptFile, PromptState | None, str]:
    """A prompt, the optimised state beside it if there is any, and the version: 16 hexadecimal digits of SHA-256 over both.

    Raises:
        InputError: There is no such prompt, or its front matter or its state is wrong.
    """
    plain_name(name, "a prompt's name")
    path = _first(f"{name}.md", folder)
    if path is None:
        near = difflib.get_close_matches(name, names(folder), n=1)
        fix = f"Did you mean {near[0]!r}?" if near else None
        raise InputError(f"there is no prompt {name!r}", where=_places(folder)[0], fix=fix)
    text = path.read_text(encoding="utf-8").replace("\r\n", "\n")
    file = _parse_file(text, path)
    if file.name != name:
        raise InputError(f"the prompt calls itself {file.name!r}", where=path, fix=f"Write `name: {name}`")
    hashed = hashlib.sha256(text.encode())
    state_path = _first(f"{name}.state.json", folder)
    state = None
    if state_path is not None:
        state = _read_state(state_path)
        hashed.update(b"\0")
        hashed.update(json.dumps(state.model_dump(mode="json"), sort_keys=True, ensure_ascii=False).encode())
    return file, state, hashed.hexdigest()[:16]


def save_state(name: str, program: Any, *, folder: Path) -> Path:
    """Save what a DSPy optimiser found beside the prompt `name`, for every later render.

    Args:
        name: Name of the prompt.
        program: A compiled `dspy.Predict` over the prompt's signature (or a program with exactly one predictor), or a
            mapping with `instructions` and `demos`.
        folder: Where to write `NAME.state.json`. The folder of the shipped prompts may be read-only; any other works
            when it is named in `LABEL_FACTORY_PROMPTS` or given to `load`.

    Raises:
        InputError: The program has no predictor or several.
    """
    file, _, _ = read(name, folder)
    state: Mapping[str, Any] = program
    if not isinstance(program, Mapping):
        predictors = list(program.predictors()) if hasattr(program, "predictors") else [program]
        if len(predictors) != 1:
            raise InputError(f"the program has {len(predictors)} predictors; a prompt's state comes from one")
        dumped = predictors[0].dump_state()
        state = {"instructions": dumped["signature"]["instructions"], "demos": dumped["demos"]}
    wanted = [key for key, spec in file.inputs.items() if not spec.shared] + [file.output.name]
    given = [{**demo, file.output.name: demo.get(file.signature_output)} for demo in state.get("demos", ())]
    demos = [{key: demo[key] for key in wanted if demo.get(key) is not None} for demo in given]
    instructions = state.get("instructions")
    content = {
        "instructions": None if instructions is None or instructions.strip() == file.instructions else instructions,
        "demos": [demo for demo in demos if file.output.name in demo],
    }
    path = folder / f"{name}.state.json"
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def _places(folder: Path | None) -> list[Path]:
    named = os.environ.get(FOLDER_VARIABLE)
    own = [folder] if folder is not None else [Path(named)] if named else []
    return [*own, shipped("prompts")]


def _first(name: str, folder: Path | None) -> Path | None:
    return next((place / name for place in _places(folder) if (place / name).is_file()), None)


def _parse_file(text: str, path: Path) -> PromptFile:
    head, found, body = text.removeprefix("---\n").partition("\n---\n")
    if not text.startswith("---\n") or not found:
        raise InputError("a prompt begins with front matter between two lines of ---", where=f"{path}:1")
    data, _ = parse_yaml(f"\n{head}", str(path))  # a line before it, so that errors name lines of the file
    if not isinstance(data, dict):
        raise InputError("the front matter is not a YAML mapping", where=f"{path}:1")
    try:
        return PromptFile.model_validate({**data, "instructions": body.strip()})
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise InputError(f"`{place}` in the front matter: {first['msg']}", where=path) from error


def _read_state(path: Path) -> PromptState:
    try:
        return PromptState.model_validate_json(path.read_text(encoding="utf-8"))
    except (ValidationError, UnicodeDecodeError) as error:
        fix = "Compile the prompt again, or delete it"
        raise InputError("this is no optimised state (instructions and demos)", where=path, fix=fix) from error
