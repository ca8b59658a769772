"""The DSPy signature and adapter of a prompt. The only module that imports dspy, and only inside its functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from factory.prompts import render
from factory.prompts.files import PromptFile
from factory.prompts.parse import ParseFailure

if TYPE_CHECKING:
    import dspy

_OUTPUT_TYPES: dict[str, Any] = {"labels": list[str], "texts": list[str], "json": dict[str, Any]}


def make_signature(file: PromptFile, instructions: str) -> type[dspy.Signature]:
    """The DSPy signature of a prompt: its inputs in order, its one output, its instructions."""
    import dspy

    fields: dict[str, Any] = {
        name: (Any, dspy.InputField(desc=spec.description or spec.title)) for name, spec in file.inputs.items()
    }
    kind = _OUTPUT_TYPES.get(file.form, str)
    fields[file.output.name] = (kind, dspy.OutputField(desc=file.output.description or file.output.name))
    return dspy.Signature(fields, instructions, signature_name=file.name)


@lru_cache(maxsize=1)
def _adapter_class() -> type[Any]:
    from dspy.adapters.base import Adapter
    from dspy.utils.exceptions import AdapterParseError

    class PlainAdapter(Adapter):
        """Renders a prompt as system message, demonstrations as turns, and what varies last; parses by the prompt's form.

        It never falls back to another adapter: an answer that cannot be read is an error of the caller's to handle.
        """

        def __init__(self, file: PromptFile, parse: Callable[[str], Any], *, structured: bool = False) -> None:
            super().__init__(use_native_function_calling=False)
            self.file, self._parse, self.structured = file, parse, structured
            self._with_shared: Any = lru_cache(maxsize=64)(_with_shared)

        def format(
            self, signature: type[dspy.Signature], demos: Sequence[Mapping[str, Any]], inputs: Mapping[str, Any]
        ) -> list[dict[str, Any]]:
            shared = tuple(name for name, spec in self.file.inputs.items() if spec.shared)
            head = "\n\n".join([signature.instructions.strip(), *render.blocks(self.file, inputs, shared=True)])
            rest = {name: value for name, value in inputs.items() if name not in shared}
            return super().format(self._with_shared(signature, shared, head), list(demos), rest)

        def format_system_message(self, signature: type[dspy.Signature]) -> str:
            return str(signature.instructions)

        def format_demos(self, signature: type[dspy.Signature], demos: Sequence[Mapping[str, Any]]) -> list[Any]:
            turns: list[dict[str, str]] = []
            for demo in demos:
                if demo.get(self.file.output.name) is None:
                    continue
                turns.append({"role": "user", "content": self.format_user_message_content(signature, dict(demo))})
                turns.append(
                    {"role": "assistant", "content": self.format_assistant_message_content(signature, dict(demo))}
                )
            return turns

        def format_user_message_content(
            self,
            signature: type[dspy.Signature],
            inputs: Mapping[str, Any],
            prefix: str = "",
            suffix: str = "",
            main_request: bool = False,
        ) -> str:
            parts = [prefix, *render.blocks(self.file, inputs, shared=False)]
            if main_request:
                parts.append(render.reminder(self.file, structured=self.structured))
            return "\n\n".join(part for part in [*parts, suffix] if part)

        def format_assistant_message_content(
            self, signature: type[dspy.Signature], outputs: Mapping[str, Any], missing_field_message: str | None = None
        ) -> str:
            return render.output(self.file.form, outputs[self.file.output.name], structured=self.structured)

        def parse(self, signature: type[dspy.Signature], completion: str) -> dict[str, Any]:
            try:
                return {self.file.output.name: self._parse(completion)}
            except ParseFailure as failure:
                raise AdapterParseError(
                    adapter_name="PlainAdapter", signature=signature, lm_response=completion, message=failure.words
                ) from failure

    return PlainAdapter


def make_adapter(file: PromptFile, parse: Callable[[str], Any], *, structured: bool = False) -> Any:
    """A DSPy adapter that renders and parses this prompt.

    Args:
        file: The prompt file.
        parse: From an answer to its value; raises `ParseFailure`.
        structured: Whether demonstrations and the reminder are in the form of the structured output.
    """
    return _adapter_class()(file, parse, structured=structured)


def _with_shared(signature: type[dspy.Signature], shared: tuple[str, ...], instructions: str) -> type[dspy.Signature]:
    for name in shared:
        signature = signature.delete(name)
    return signature.with_instructions(instructions)
