"""What all tests share: the root on the path, and the folder of real data."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of public data sets, read in place: $LABEL_FACTORY_DATA, else ../shared/data beside the checkout."""
    folder = Path(os.environ.get("LABEL_FACTORY_DATA", ROOT.parent / "shared" / "data"))
    if not (folder / "INDEX.md").exists():
        pytest.skip(f"no data sets in {folder}: set LABEL_FACTORY_DATA to their folder")
    return folder
