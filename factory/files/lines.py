"""Lines of a text file, plain, `.gz` or `.zst`, or of stdin, in bounded memory."""

from __future__ import annotations

import codecs
import gzip
import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

from factory.errors import InputError
from factory.files.base import MAX_LINE_CHARS, BadRow
from factory.files.unpack import unpacked

_MARKS = {
    b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe\x00\x00": "utf-32", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16",
}  # fmt: skip
_MOST_BYTES = 1 << 26
"""Of one line that is read as bytes: a result of many long answers is a megabyte or two."""


@contextmanager
def opened(path: Path, encoding: str | None = None) -> Iterator[tuple[io.TextIOWrapper, str]]:
    """Open a text file, unpacked on the way; `-` is stdin.

    Bytes that are not of the encoding come out as lone surrogates U+DC80 to U+DCFF, so that a reader can name their line.

    Yields:
        The text stream (line ends kept as they are) and its encoding: the one told, that of a byte order mark, else `utf-8`.

    Raises:
        InputError: No such file, not readable, an unknown encoding, a damaged archive.
    """
    with _bytes_of(path) as buffered:
        head = buffered.peek(4)[:4]
        name = encoding or next((name for mark, name in _MARKS.items() if head.startswith(mark)), "utf-8")
        try:
            exact = codecs.lookup(name).name
            text = io.TextIOWrapper(
                buffered, encoding="utf-8-sig" if exact == "utf-8" else name, errors="surrogateescape", newline=""
            )
        except (LookupError, ValueError) as error:
            raise InputError(f"unknown encoding `{name}`", where=path, fix="Try `utf-8` or `cp1252`") from error
        try:
            yield text, name
        finally:
            if str(path) == "-":
                text.detach()


@contextmanager
def _bytes_of(path: Path) -> Iterator[io.BufferedReader]:
    if str(path) == "-":
        with damage(Path("stdin")):
            yield io.BufferedReader(cast("io.RawIOBase", sys.stdin.buffer), 1 << 16)
        return
    need_file(path)
    with damage(path), path.open("rb") as raw:
        yield io.BufferedReader(cast("io.RawIOBase", unpacked(cast("IO[bytes]", raw), path)), 1 << 20)


@contextmanager
def byte_lines(path: Path) -> Iterator[Iterator[tuple[int, bytes]]]:
    """A file's lines as bytes with their number from 1, unpacked, without a byte order mark: for files of our own in JSONL.

    Raises:
        InputError: No such file, not readable, a damaged archive, a line of more than 64 MiB.
    """
    with _bytes_of(path) as stream:
        yield numbered_lines(stream, path)


def numbered_lines(stream: IO[bytes], where: Path | str) -> Iterator[tuple[int, bytes]]:
    """The same of a stream that is open; `where` is its name.

    Raises:
        InputError: A line of more than 64 MiB.
    """
    number = 0
    while line := stream.readline(_MOST_BYTES):
        number += 1
        if len(line) == _MOST_BYTES and not line.endswith(b"\n"):
            raise InputError("this line is longer than 64 MiB", where=f"{where}:{number}")
        yield number, line.removeprefix(codecs.BOM_UTF8) if number == 1 else line


def need_file(path: Path) -> None:
    """Refuse what is not a regular file.

    Raises:
        InputError: Nothing is there, or a folder, a pipe or a device.
    """
    if path.is_file():
        return
    if path.is_dir():
        raise InputError("this is a folder", where=path, fix="Name a file")
    if path.exists():
        raise InputError("this is not a regular file (a pipe or a device)", where=path, fix="Save it as a file first")
    raise InputError("no such file", where=path, fix="Check the path")


@contextmanager
def damage(path: Path) -> Iterator[None]:
    """Turn what a damaged archive raises into one line."""
    import zlib

    try:
        yield
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        what = f"the archive is damaged or cut off ({error})"
        raise InputError(what, where=path, fix="Fetch or pack it again") from error
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
        return InputError("this is a folder", where=path, fix="Name a file")
    what = f"cannot be read: {error.strerror or error}"
    return InputError(what, where=path, fix="Check the file and its permissions")


def numbered(stream: io.TextIOWrapper) -> Iterator[tuple[int, str | BadRow]]:
    """Every line with its number from 1, its line end on it; one over the limit is a `BadRow` and never held whole."""
    number = 0
    while line := stream.readline(MAX_LINE_CHARS):
        number += 1
        if number == 1:
            line = line.removeprefix("\ufeff")
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
    """Whether the first characters of a file do not look like text: many control characters, or bytes that do not decode."""
    odd = sum(1 for c in head if (c < " " and c not in "\t\n\r\f\x1b") or "\udc80" <= c <= "\udcff" or c == "\x7f")
    return odd >= 16 and odd > 0.1 * len(head)
