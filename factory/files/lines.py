"""Lines of a text file, plain, `.gz` or `.zst`, in bounded memory."""

from __future__ import annotations

import gzip
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

from factory.errors import InputError
from factory.files.base import MAX_LINE_CHARS, BadRow
from factory.files.unpack import Unpacked

_MARKS = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}


@contextmanager
def opened(path: Path, encoding: str | None) -> Iterator[tuple[io.TextIOWrapper, str]]:
    """Open a text file, unpacked on the way.

    Bytes that are no UTF-8 come out as lone surrogates U+DC80 to U+DCFF, so that a reader can name their line.

    Yields:
        The text stream (line ends kept as they are) and its encoding: the one told, that of a byte order mark, else `utf-8`.

    Raises:
        InputError: No such file, not readable, an unknown encoding, a damaged archive.
    """
    try:
        raw = cast("IO[bytes]", path.open("rb"))
    except OSError as error:
        raise unreadable(path, error) from error
    with raw:
        stream: IO[bytes] = raw
        if path.suffix == ".gz":
            stream = cast("IO[bytes]", gzip.GzipFile(fileobj=raw))
        elif path.suffix == ".zst":
            stream = cast("IO[bytes]", Unpacked(raw))
        with damage(path):
            buffered = io.BufferedReader(cast("io.RawIOBase", stream), 1 << 20)
            head = buffered.peek(4)[:4]
        name = encoding or next((name for mark, name in _MARKS.items() if head.startswith(mark)), "utf-8")
        try:
            text = io.TextIOWrapper(buffered, encoding=name, errors="surrogateescape", newline="")
        except LookupError as error:
            raise InputError(f"unknown encoding `{name}`", where=path, fix="Try `utf-8` or `cp1252`") from error
        with damage(path):
            yield text, name


@contextmanager
def damage(path: Path) -> Iterator[None]:
    """Turn what a damaged archive raises into one line."""
    import zlib

    try:
        yield
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise InputError(
            f"the archive is damaged or cut off ({error})", where=path, fix="Fetch or pack it again"
        ) from error
    except UnicodeError as error:
        raise InputError(f"the text cannot be decoded ({error})", where=path, fix="Name its `encoding:`") from error
    except OSError as error:
        raise unreadable(path, error) from error
    except Exception as error:
        if type(error).__name__ == "ZstdError":
            raise InputError(f"the archive is damaged ({error})", where=path, fix="Fetch or pack it again") from error
        raise


def unreadable(path: Path, error: OSError) -> InputError:
    """The clear line for a file that cannot be opened."""
    if isinstance(error, FileNotFoundError):
        return InputError("no such file", where=path, fix="Check the path")
    if isinstance(error, IsADirectoryError):
        return InputError("this is a folder", where=path, fix="Name a file, or say `format: dataset`")
    return InputError(
        f"cannot be read: {error.strerror or error}", where=path, fix="Check the file and its permissions"
    )


def numbered(stream: io.TextIOWrapper) -> Iterator[tuple[int, str | BadRow]]:
    """Every line with its number from 1, its line end on it; one over the limit is a `BadRow` and never held whole."""
    number = 0
    while line := stream.readline(MAX_LINE_CHARS):
        number += 1
        if len(line) < MAX_LINE_CHARS or line.endswith(("\n", "\r")):
            yield number, line
            continue
        length = len(line)
        while rest := stream.readline(MAX_LINE_CHARS):
            length += len(rest)
            if rest.endswith(("\n", "\r")):
                break
        yield number, BadRow(number, "line_too_long", f"{length:,} characters; the limit is {MAX_LINE_CHARS:,}")


def is_binary(head: str) -> bool:
    """Whether the first characters of a file look like no text: many control characters, or bytes that are no UTF-8."""
    odd = sum(1 for c in head if (c < " " and c not in "\t\n\r\f\x1b") or "\udc80" <= c <= "\udcff" or c == "\x7f")
    return odd >= 16 and odd > 0.1 * len(head)
