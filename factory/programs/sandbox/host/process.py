"""One sealed worker process as the host sees it, and what it proves about itself."""

from __future__ import annotations

import contextlib
import json
import marshal
import os
import selectors
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from factory.errors import SandboxError

_BOOT = (
    "import sys; sys.path.insert(0, {folder!r}); from sealed.worker import main; sys.path.pop(0); main({settings!r})"
)
_REPLY_S = 900.0


@dataclass(frozen=True)
class Layers:
    """What a raw-system-call probe inside a sealed child, static check off, could and could not do.

    Attributes:
        denied: Attempts that failed (`sealed.layers.ATTEMPTS` names them); iterating gives them.
        possible: Attempts that worked.
        installed: Kernel layers that are on.
        missing: Kernel layer to why it is not on.
    """

    denied: tuple[str, ...]
    possible: tuple[str, ...]
    installed: tuple[str, ...]
    missing: dict[str, str] = field(default_factory=dict)

    def __iter__(self) -> Iterator[str]:
        return iter(self.denied)

    def __len__(self) -> int:
        return len(self.denied)

    @property
    def complete(self) -> bool:
        """Whether every layer is on and every attempt failed."""
        return not self.possible and not self.missing

    def says(self) -> str:
        """One line for a person: what is on, or what is missing, what that means, and how to refuse it."""
        if self.complete:
            return f"sandbox: all layers on ({', '.join(self.installed)})"
        gone = "; ".join(f"{name} ({why})" for name, why in self.missing.items()) or "no layer"
        still = list(dict.fromkeys(_MEANS[name] for name in self.possible))
        means = (
            f"a program that gets past the static check could {', '.join(still)}" if still else "the others still hold"
        )
        return f"sandbox: missing is {gone}; {means}; `strict: true` refuses to run without it"


_MEANS = {
    "open_read": "read files", "open_write": "write files", "list_folder": "list folders", "socket": "use the network",
    "fork": "start processes", "kill": "send signals to processes of the same user", "executable_memory": "make machine code",
} | dict.fromkeys(
    ("limit", "priority", "io_priority", "affinity", "scheduler"), "slow or limit processes of the same user"
)  # fmt: skip


class Process:
    """One worker process and the pipes to it."""

    def __init__(self, settings: str) -> None:
        self._settings = settings
        self._has_namespaces = False
        self.watch_bytes = 0
        self._spawn()

    def _spawn(self) -> None:
        boot = _BOOT.format(folder=str(Path(__file__).parents[1]), settings=self._settings)
        try:
            self._popen = subprocess.Popen(
                [sys.executable, "-s", "-S", "-P", "-B", "-X", "utf8", "-c", boot], stdin=subprocess.PIPE,
                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env={"PYTHONHASHSEED": "0"}, cwd="/", close_fds=True,
                start_new_session=True, bufsize=0,
            )  # fmt: skip
        except OSError as error:
            raise SandboxError(f"a worker cannot be started: {error.strerror}", where="sandbox") from error
        assert self._popen.stdin is not None
        assert self._popen.stdout is not None
        self._in, self._out = self._popen.stdin, self._popen.stdout

    @property
    def alive(self) -> bool:
        return self._popen.poll() is None

    @property
    def pid(self) -> int:
        return self._popen.pid

    def kill(self) -> None:
        """End the worker, and its child with it."""
        with contextlib.suppress(OSError):
            os.killpg(self._popen.pid, signal.SIGKILL)
        with contextlib.suppress(OSError):
            self._in.close()
            self._out.close()
        self._popen.wait()

    def probe(self) -> Layers:
        self._send(marshal.dumps(("probe", None)))
        reply = self._receive(60.0)
        if reply is None:
            self.kill()
            fix = "Run `factory doctor` to see what this machine allows"
            raise SandboxError("a worker ended while it was starting", where="sandbox", fix=fix)
        from factory.programs.sandbox.sealed.layers import ATTEMPTS, LAYERS

        said = json.loads(reply)
        possible = tuple(name for name in ATTEMPTS if name in said["possible"])
        missing = {str(name): str(why) for name, why in said["refused"].items()}
        self._has_namespaces = "namespaces" not in missing
        if not said["tried"]:
            missing["probe"] = "the probe did not come back"
        return Layers(
            tuple(name for name in ATTEMPTS if name not in possible),
            possible,
            tuple(name for name in LAYERS if name not in missing),
            missing,
        )

    def texts(self, frame: bytes) -> None:
        """Give the worker the chunk that the next tasks are about."""
        if not self.alive:
            self._spawn()
        self._send(frame)

    def task(self, task: dict[str, Any], n: int) -> tuple[np.ndarray | None, dict[str, Any]]:
        """Run one program over the chunk: raw codes `[n]` int32 and notes; None if the worker itself was lost."""
        self._send(marshal.dumps(("run", task)))
        notes = self._receive(90 + n * 0.02)
        codes = None if notes is None else self._receive(30.0)
        if notes is None or codes is None or len(codes) != 4 * n:
            self.kill()
            self._spawn()
            return None, {"refused": None, "retired": "crash", "rows": []}
        try:
            said = json.loads(notes)
        except ValueError:
            said = {}
        return np.frombuffer(codes, dtype=np.int32), said if isinstance(said, dict) else {}

    def _send(self, data: bytes) -> None:
        try:
            view = memoryview(struct.pack("<Q", len(data)) + data)
            while view:
                view = view[self._in.write(view) or 0 :]
        except (OSError, ValueError):
            return

    def _receive(self, limit_s: float) -> bytes | None:
        """One frame, or None if the worker is gone or silent."""
        deadline = time.monotonic() + min(limit_s, _REPLY_S)
        head = self._read(8, deadline)
        if head is None:
            return None
        size = struct.unpack("<Q", head)[0]
        return None if size > 1 << 30 else self._read(size, deadline)

    def _read(self, size: int, deadline: float) -> bytes | None:
        data = bytearray()
        with selectors.DefaultSelector() as selector:
            selector.register(self._out, selectors.EVENT_READ)
            while len(data) < size:
                left = deadline - time.monotonic()
                if left <= 0:
                    return None
                if not selector.select(min(left, 0.05) if self.watch_bytes else left):
                    if self.watch_bytes:
                        self._kill_large_children()
                    continue
                part = os.read(self._out.fileno(), min(size - len(data), 1 << 20))
                if not part:
                    return None
                data += part
        return bytes(data)

    def _kill_large_children(self) -> None:
        """Where the kernel sets no limit on memory: end a child that has taken too much. The worker counts it as a crash."""
        import psutil

        with contextlib.suppress(psutil.Error):
            mine = psutil.Process(self.pid)
            if self._has_namespaces:  # what remained outside, and the first process inside, wait for the worker proper
                mine = mine.children()[0].children()[0]
            base = mine.memory_info().rss
            for child in mine.children():
                with contextlib.suppress(psutil.Error):
                    if child.memory_info().rss > base + self.watch_bytes:
                        child.kill()
