"""`.gz` and `.zst` files, unpacked in bounded memory and read to their true end: one that is cut off is an `EOFError`."""

from __future__ import annotations

import gzip
import io
from pathlib import Path
from typing import IO, Any, cast

from factory.errors import InputError

MOST_UNPACKED = 1 << 25
"""Bytes that any archive may unpack to; beyond, no more than `MOST_RATIO` times its own size."""

MOST_RATIO = 1000
"""Text packs to a tenth, repeated lines to a hundredth; only zeros and attacks pack to a thousandth."""

_PIECE = 1 << 10
"""Packed bytes looked at at once. A block of four bytes may hold 128 KiB, so this bounds what is held to 32 MiB."""


def unpacked(raw: IO[bytes], path: Path) -> IO[bytes]:
    """The bytes in a file by its ending: unpacked, or as they are."""
    kind = path.suffix.lower()
    if kind == ".gz":
        return cast("IO[bytes]", _Limited(cast("Any", gzip.GzipFile(fileobj=raw)), raw, path))
    if kind == ".zst":
        return cast("IO[bytes]", _Limited(_Frames(raw), raw, path))
    return raw


class _Limited(io.RawIOBase):
    """Stops an archive that unpacks to far more than any text does."""

    def __init__(self, inner: Any, raw: IO[bytes], path: Path) -> None:
        self._inner, self._raw, self._path, self._read = inner, raw, path, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        n = int(self._inner.readinto(buffer))
        self._read += n
        if self._read > MOST_UNPACKED and self._read > MOST_RATIO * max(self._raw.tell(), 1):
            raise InputError(
                f"the archive unpacks to more than {MOST_RATIO:,} times its size, as no text does",
                where=self._path,
                fix="Look at it; if it is right, unpack it yourself and name the file",
            )
        return n


class _Frames(io.RawIOBase):
    """A .zst file, frame after frame; zstandard's own `stream_reader` takes one that does not end for ended."""

    def __init__(self, raw: IO[bytes]) -> None:
        self._raw, self._left = raw, memoryview(b"")
        self._frame: Any = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        import zstandard

        while not self._left:
            block = self._raw.read(_PIECE)
            if not block:
                if self._frame is not None and not self._frame.eof:
                    raise EOFError("the last frame does not end")
                return 0
            out = b""
            while block:
                if self._frame is None or self._frame.eof:
                    self._frame = zstandard.ZstdDecompressor().decompressobj()
                out += self._frame.decompress(block)
                block = self._frame.unused_data if self._frame.eof else b""
            self._left = memoryview(out)  # taken piece by piece without a copy of the rest
        n = min(len(buffer), len(self._left))
        buffer[:n], self._left = self._left[:n], self._left[n:]
        return n
