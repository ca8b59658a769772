"""A small model on this machine's CPU (or GPU) by `transformers`, for those who have neither a server nor vLLM.

Choices are decided by scoring: each choice's tokens after the prompt, the log-probability summed (and divided by the number of
tokens where the choices differ in length), then drawn at the request's temperature with the sample's own seed. Free text is
generated in batches. JSON schemas and regexes cannot be forced here: `factory engine check` says so.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from factory.errors import EngineError
from factory.extras import need
from factory.llm.calls import Call, Fault, Reply
from factory.llm.engines.base import LocalEngine
from factory.llm.openai_format import clean
from factory.llm.request import Answer, Usage
from factory.llm.settings import EngineSettings


class TransformersEngine(LocalEngine):
    """`AutoModelForCausalLM` in this process, batched."""

    name = "transformers"

    def __init__(self, settings: EngineSettings, base: Path) -> None:
        super().__init__(settings, base)
        self._model_object: Any = None
        self._tokenizer: Any = None
        self._adapted: Any = None

    def answer(self, calls: Iterable[Call]) -> Iterator[tuple[Call, Reply]]:
        """Take calls a batch at a time; each sample is a row of its own."""
        source = iter(calls)
        while batch := list(islice(source, self.settings.batch_size)):
            self._load()
            texts = [call for call in batch if not call.request.schema]
            for call in batch:
                kind = next(iter(call.request.schema or {}), None)
                if "choice" in (call.request.schema or {}):
                    self._speak_as(call.request.model.adapter)
                    yield call, self._choose(call)
                elif kind is not None:
                    words = f"`{kind}` needs vLLM; this engine knows choices"
                    yield call, Reply(fault=Fault("refused", "unsupported", words))
            for adapter in sorted({call.request.model.adapter for call in texts}, key=str):
                self._speak_as(adapter)
                yield from self._generate([call for call in texts if call.request.model.adapter == adapter])

    def context_length(self) -> int | None:
        """`max_position_embeddings` of the model."""
        self._load()
        length = getattr(self._model_object.config, "max_position_embeddings", None)
        return None if length is None else int(length)

    def close(self) -> None:
        """Free the model's memory."""
        self._model_object = self._tokenizer = self._adapted = None

    # ------------------------------------------------------------------------------------------------------------------
    def _load(self) -> None:
        if self._model_object is not None:
            return
        from transformers import AutoModelForCausalLM, AutoTokenizer

        try:
            path, revision = self._model_path(), self.settings.revision
            self._tokenizer = AutoTokenizer.from_pretrained(path, revision=revision)
            arguments = {"revision": revision, **self.settings.engine_args}
            self._model_object = AutoModelForCausalLM.from_pretrained(path, **arguments)
        except (OSError, ValueError) as error:
            first = str(error).splitlines()[0]
            raise EngineError(f"the model cannot be loaded: {first}", where=self.settings.model) from error
        if not getattr(self._tokenizer, "chat_template", None):
            raise EngineError(
                "the model has no chat template", where=self.settings.model, fix="Take an instruction-tuned model"
            )
        if self._tokenizer.pad_token_id is None:
            self._tokenizer.pad_token_id = self._tokenizer.eos_token_id
        self._model_object.eval()

    def _speak_as(self, adapter: str | None) -> None:
        """Switch to a LoRA adapter, loaded when it is first asked, or back to the model itself."""
        if adapter is None:
            if self._adapted is not None:
                self._adapted.base_model.disable_adapter_layers()
            return
        need("peft", "an adapter of engine `transformers`")
        folder = self._adapters[adapter]
        try:
            if self._adapted is None:
                from peft import PeftModel

                # It puts its layers into the model itself, which speaks as whichever adapter is active.
                self._adapted = PeftModel.from_pretrained(self._model_object, str(folder), adapter_name=adapter)
            elif adapter not in self._adapted.peft_config:
                self._adapted.load_adapter(str(folder), adapter_name=adapter)
        except (OSError, ValueError) as error:
            raise EngineError(f"the adapter cannot be loaded: {str(error).splitlines()[0]}", where=folder) from error
        self._adapted.base_model.enable_adapter_layers()
        self._adapted.set_adapter(adapter)
        self._adapted.eval()

    def _prompt_ids(self, call: Call) -> list[int]:
        more = self.settings.extra_body.get("chat_template_kwargs") or {}
        text = self._tokenizer.apply_chat_template(
            list(call.request.messages), tokenize=False, add_generation_prompt=True, **more
        )
        ids: list[int] = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def _too_long(self, ids: Sequence[int], more: int) -> Fault | None:
        length = self.context_length()
        if length is None or len(ids) + more <= length:
            return None
        words = f"{len(ids)} tokens and an answer of {more} do not fit into {length}"
        return Fault("declined", "context_too_long", words)

    def _seed(self, sample: int) -> int:
        return (self.settings.seed or 0) + sample

    def _choose(self, call: Call) -> Reply:
        """One prompt, all choices: a forward pass over (prompt + choice) rows."""
        import torch

        began = time.perf_counter()
        prompt = self._prompt_ids(call)
        names = list((call.request.schema or {})["choice"])
        options = [self._tokenizer(name, add_special_tokens=False)["input_ids"] for name in names]
        lengths = [len(option) for option in options]
        fault = self._too_long(prompt, max(lengths))
        if fault is not None:
            return Reply(fault=fault)
        left, pad = [max(lengths) - length for length in lengths], [self._tokenizer.pad_token_id]
        rows = [prompt + option + pad * rest for option, rest in zip(options, left, strict=True)]
        mask = [[1] * (len(row) - rest) + [0] * rest for row, rest in zip(rows, left, strict=True)]
        with torch.no_grad():
            device = self._model_object.device
            output = self._model_object(
                input_ids=torch.tensor(rows, device=device), attention_mask=torch.tensor(mask, device=device)
            )
            logprobs = torch.log_softmax(output.logits[:, len(prompt) - 1 :].float(), dim=-1)
        pairs = zip(logprobs, options, strict=True)
        sums = np.array([sum(float(row[at, token]) for at, token in enumerate(option)) for row, option in pairs])
        scores = choice_scores(sums, lengths)
        ms = (time.perf_counter() - began) * 1e3
        told = [{"token": name, "logprob": float(score)} for name, score in zip(names, scores, strict=True)]
        wanted = call.request.sampling.get("logprobs") is not None
        answers = {}
        for sample in range(call.first, call.last + 1):
            at = draw(scores, float(call.request.sampling.get("temperature", 1.0)), self._seed(sample))
            usage = Usage(len(prompt) if sample == call.first else 0, lengths[at], 0, True)
            given = {"content": [{**told[at], "top_logprobs": told}]} if wanted else None
            answers[sample] = Answer(names[at], "stop", None, usage, None, ms, given, self.name)
        return Reply(answers, None, ms)

    def _generate(self, calls: Sequence[Call]) -> Iterator[tuple[Call, Reply]]:
        """Free text: rows of equal sampling go through one `generate`; greedy ones together, sampled ones by their seed."""
        replies: dict[int, dict[int, Answer]] = {at: {} for at in range(len(calls))}
        faults: dict[int, Fault] = {}
        groups: dict[str, list[tuple[int, int, list[int]]]] = {}
        for at, call in enumerate(calls):
            prompt = self._prompt_ids(call)
            fault = self._too_long(prompt, int(call.request.sampling.get("max_tokens") or 256))
            if fault is not None:
                faults[at] = fault
                continue
            greedy = call.request.sampling.get("temperature", 1.0) == 0
            sampling = sorted(call.request.sampling.items(), key=str)
            for sample in range(call.first, call.last + 1):
                name = repr((sampling, None if greedy else (self._seed(sample), call.request.key)))
                groups.setdefault(name, []).append((at, sample, prompt))
        for rows in groups.values():
            began = time.perf_counter()
            call = calls[rows[0][0]]
            texts = self._run([prompt for _, _, prompt in rows], call.request.sampling, self._seed(rows[0][1]))
            ms = (time.perf_counter() - began) * 1e3
            for (at, sample, prompt), (text, n_out, whole) in zip(rows, texts, strict=True):
                usage = Usage(len(prompt) if sample == calls[at].first else 0, n_out, 0, True)
                finish = "stop" if whole else "length"
                replies[at][sample] = Answer(clean(text), finish, None, usage, None, ms, None, self.name)  # type: ignore[arg-type]
        for at, call in enumerate(calls):
            yield call, Reply(replies[at], faults.get(at))

    def _run(self, prompts: Sequence[list[int]], sampling: Mapping[str, Any], seed: int) -> list[tuple[str, int, bool]]:
        """`(text, tokens, whether it ended by itself)` for each prompt."""
        import torch

        tokenizer, model = self._tokenizer, self._model_object
        width = max(len(prompt) for prompt in prompts)
        pad = tokenizer.pad_token_id
        ids = torch.tensor([[pad] * (width - len(prompt)) + prompt for prompt in prompts], device=model.device)
        shown = [[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts]
        temperature = float(sampling.get("temperature", 1.0))
        options: dict[str, Any] = {"max_new_tokens": int(sampling.get("max_tokens") or 256), "pad_token_id": pad}
        options["do_sample"] = temperature > 0
        if temperature > 0:
            bounds = {"top_p": float(sampling.get("top_p", 1.0)), "top_k": int(sampling.get("top_k", 0) or 0)}
            options |= {"temperature": temperature, **bounds}
        stop = sampling.get("stop")
        if stop:
            options |= {"stop_strings": [stop] if isinstance(stop, str) else list(stop), "tokenizer": tokenizer}
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            output = model.generate(input_ids=ids, attention_mask=torch.tensor(shown, device=model.device), **options)
        found = []
        ends = model.generation_config.eos_token_id
        ending = set(ends if isinstance(ends, list) else [ends]) | {tokenizer.eos_token_id}
        for row in output[:, width:].tolist():
            n = next((at for at, token in enumerate(row) if token in ending), None)
            kept = row if n is None else row[:n]
            text = tokenizer.decode(kept, skip_special_tokens=True)
            cut = _cut_at(text, stop)
            found.append((text if cut is None else cut, len(kept), n is not None or cut is not None))
        return found


def choice_scores(sums: np.ndarray, lengths: Sequence[int]) -> np.ndarray:
    """Log-probabilities of the choices, normalised among themselves.

    Args:
        sums: [k] summed log-probabilities of each choice's tokens.
        lengths: Tokens of each choice; where they differ the mean per token is compared, lest short names win.

    Returns:
        [k], logs that sum to one as probabilities.
    """
    scores = sums if len(set(lengths)) == 1 else sums / np.maximum(np.asarray(lengths, dtype=float), 1.0)
    top = scores.max()
    normalised: np.ndarray = scores - (top + np.log(np.exp(scores - top).sum()))
    return normalised


def draw(scores: np.ndarray, temperature: float, seed: int) -> int:
    """A choice: the best at temperature 0, else drawn with this seed."""
    if temperature == 0:
        return int(np.argmax(scores))
    weights = np.exp((scores - scores.max()) / temperature)
    return int(np.random.default_rng(seed).choice(len(scores), p=weights / weights.sum()))


def _cut_at(text: str, stop: str | Sequence[str] | None) -> str | None:
    """The text before the first stop string in it, or None if there is none."""
    words = [stop] if isinstance(stop, str) else list(stop or ())
    found = [text.index(word) for word in words if word in text]
    return text[: min(found)] if found else None
