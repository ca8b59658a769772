"""Archives are unpacked in bounded memory, and one that unpacks to far more than text does is refused."""

from __future__ import annotations

import gzip
import subprocess
import sys
from pathlib import Path

import pytest
import zstandard

from factory.errors import InputError
from factory.files.lines import byte_lines, opened

READ = """
import resource, sys
from pathlib import Path
from factory.errors import InputError
from factory.files.base import ReadOptions
from factory.files.open import open_source
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
said = ""
try:
    for batch in open_source(ReadOptions(Path(sys.argv[1]))).batches(["text"]):
        pass
except InputError as error:
    said = str(error)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
print(said)
"""


def test_a_small_archive_that_unpacks_to_gigabytes_takes_little_memory_and_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bomb.jsonl.zst"
    packer = zstandard.ZstdCompressor(level=19).compressobj()
    with path.open("wb") as file:
        file.write(packer.compress(b'{"text": "ok"}\n{"text": "'))
        for _ in range(2000):
            file.write(packer.compress(b"a" * (1 << 20)))
        file.write(packer.compress(b'"}\n') + packer.flush())
    assert path.stat().st_size < 300_000
    done = subprocess.run(
        [sys.executable, "-c", READ, str(path)], capture_output=True, text=True, timeout=300, check=True
    )
    grown, said = done.stdout.splitlines()
    assert int(grown) < 250
    assert "unpacks to more than 1,000 times its size" in said


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress])
def test_repeated_lines_are_no_attack(tmp_path: Path, pack: object) -> None:
    path = tmp_path / ("a.txt.gz" if pack is gzip.compress else "a.txt.zst")
    path.write_bytes(pack(b"the same line again and again\n" * 200_000))  # type: ignore[operator]
    with opened(path) as (stream, _):
        assert sum(1 for _ in stream) == 200_000


def test_our_own_files_are_read_packed_marked_and_by_line(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl.gz"
    path.write_bytes(gzip.compress(b"\xef\xbb\xbf{}\n\n{}"))
    with byte_lines(path) as lines:
        assert list(lines) == [(1, b"{}\n"), (2, b"\n"), (3, b"{}")]
    with pytest.raises(InputError, match="no such file"), byte_lines(tmp_path / "none") as lines:
        list(lines)


@pytest.mark.parametrize("path", ["/dev/zero", "/dev/null"])
def test_a_device_is_not_a_file_of_texts(path: str) -> None:
    with pytest.raises(InputError, match="not a regular file"), opened(Path(path)):
        pass
