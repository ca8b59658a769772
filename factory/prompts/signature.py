"""Our prompts for DSPy programs and optimisers. The only module of this folder that imports dspy, inside its functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from factory.prompts.failure import ParseFailure

if TYPE_CHECKING:
    import dspy

    from factory.prompts.prompt import Prompt

_OUTPUT_TYPES: dict[str, Any] = {"labels": list[str], "texts": list[str], "json": dict[str, Any]}


def make_signature(prompt: Prompt) -> type[dspy.Signature]:
    """The DSPy signature of a prompt: its inputs in order, its one output, its instructions."""
    import dspy

    file = prompt.file
    fields: dict[str, Any] = {
        name: (Any, dspy.InputField(desc=spec.description or spec.title)) for name, spec in file.inputs.items()
    }
    kind = _OUTPUT_TYPES.get(file.form, str)
    fields[file.signature_output] = (kind, dspy.OutputField(desc=file.output.description or file.output.name))
    signature: type[dspy.Signature] = dspy.Signature(fields, prompt.instructions, signature_name=file.name)
    return signature


def make_adapter(prompt: Prompt, *, labels: Sequence[str] | None = None, structured: bool = False) -> dspy.Adapter:
    """A DSPy adapter that renders and reads as the stages do, whatever instructions and demonstrations a program has.

    It never falls back to another adapter: an answer that cannot be read is an `AdapterParseError`.

    Args:
        prompt: The prompt whose signature the program has.
        labels: The names that an answer may give (forms `label` and `labels`).
        structured: For models that answer in the structured form.
    """
    import dspy
    from dspy.utils.exceptions import AdapterParseError

    output = prompt.file.signature_output

    class PromptAdapter(dspy.Adapter):  # type: ignore[misc]  # dspy has no types
        def format(
            self, signature: type[dspy.Signature], demos: Sequence[Mapping[str, Any]], inputs: Mapping[str, Any]
        ) -> list[dict[str, Any]]:
            shown = [{**demo, prompt.file.output.name: demo.get(output)} for demo in demos]
            chat = prompt.chat(signature.instructions, inputs, shown, structured=structured)
            return [dict(message) for message in chat]

        def parse(self, signature: type[dspy.Signature], completion: str) -> dict[str, Any]:
            try:
                return {output: prompt.parse(completion, labels=labels)}
            except ParseFailure as failure:
                raise AdapterParseError(
                    adapter_name="PromptAdapter", signature=signature, lm_response=completion, message=failure.words
                ) from failure

    return PromptAdapter(use_native_function_calling=False)
