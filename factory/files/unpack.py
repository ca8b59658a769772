"""Zstandard files, read to their true end: for what comes in (`corpus/readers`) and what is predicted on (`students/tables`)."""

from __future__ import annotations

import io
from typing import IO, Any


class Unpacked(io.RawIOBase):
    """A .zst file, frame after frame; one that does not end is an `EOFError` (`stream_reader` lets it pass as the end)."""

    def __init__(self, raw: IO[bytes]) -> None:
        self._raw, self._left = raw, memoryview(b"")
        self._frame: Any = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        import zstandard

        while not self._left:
            block = self._raw.read(1 << 14)
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
