"""Our prompts for DSPy programs and optimisers. The only module of this folder that imports dspy, inside its functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from factory.llm.request import Message, ParseFailure
from factory.prompts.files import PromptFile

if TYPE_CHECKING:
    import dspy

_OUTPUT_TYPES: dict[str, Any] = {
    "labels": list[str],
    "texts": list[str],
    "json": dict[str, Any],
    "cues": dict[str, list[str]],
}


def make_signature(file: PromptFile, instructions: str) -> type[dspy.Signature]:
    """The DSPy signature of a prompt: its inputs in order, its one output, its instructions."""
    import dspy

    fields: dict[str, Any] = {
        name: (Any, dspy.InputField(desc=spec.description or spec.title)) for name, spec in file.inputs.items()
    }
    kind = _OUTPUT_TYPES.get(file.form, str)
    fields[file.signature_output] = (kind, dspy.OutputField(desc=file.output.description or file.output.name))
    signature: type[dspy.Signature] = dspy.Signature(fields, instructions, signature_name=file.name)
    return signature


def make_adapter(
    file: PromptFile,
    render: Callable[[str, Mapping[str, Any], Sequence[Mapping[str, Any]]], Sequence[Message]],
    parse: Callable[[str], Any],
) -> dspy.Adapter:
    """A DSPy adapter that renders and reads as the stages do, whatever instructions and demonstrations a program has.

    It never falls back to another adapter: an answer that cannot be read is an `AdapterParseError`.

    Args:
        file: The prompt whose signature the program has.
        render: Instructions, values of the inputs and demonstrations to the chat.
        parse: An answer to its value; raises `ParseFailure`.
    """
    import dspy
    from dspy.utils.exceptions import AdapterParseError

    output = file.signature_output

    class PromptAdapter(dspy.Adapter):  # type: ignore[misc]  # dspy has no types
        def format(
            self, signature: type[dspy.Signature], demos: Sequence[Mapping[str, Any]], inputs: Mapping[str, Any]
        ) -> list[dict[str, Any]]:
            shown = [{**demo, file.output.name: demo.get(output)} for demo in demos]
            chat = render(signature.instructions, inputs, shown)
            return [dict(message) for message in chat]

        def parse(self, signature: type[dspy.Signature], completion: str) -> dict[str, Any]:
            try:
                return {output: parse(completion)}
            except ParseFailure as failure:
                told = {"signature": signature, "lm_response": completion, "message": failure.words}
                raise AdapterParseError(adapter_name="PromptAdapter", **told) from failure

    return PromptAdapter(use_native_function_calling=False)
