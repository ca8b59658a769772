"""One run of the hostile programs, watched from outside; prints one JSON object. Run as a process of its own.

python tests/programs/hostile_run.py '{"static": false, "refuse": ["seccomp"], "user": 1234}'
"""

from __future__ import annotations

import json
import os
import resource
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1]), str(HERE)]

LABELS = ["good", "breach"]
TEXTS = ["a plain text", "win a prize", "the song"]
GOOD = (
    "import re\nRX = re.compile('win|song')\n"
    "def label(text):\n    return 'good' if RX.search(text) and len(text) > 3 else None"
)


def main(config: dict[str, object]) -> dict[str, object]:
    """Run them all between good programs and say what was touched."""
    import psutil  # noqa: F401  (before the user changes: ours may be unable to read the interpreter's folder)
    from hostile import programs

    from factory.programs.sandbox.host.pool import Pool

    if config.get("user"):
        os.setgroups([])
        os.setgid(int(str(config["user"])))
        os.setuid(int(str(config["user"])))
        if not os.access(os.path.realpath(sys.executable), os.X_OK):
            sys.executable = shutil.which("python3", path="/usr/bin:/usr/local/bin") or sys.executable
    os.environ["FACTORY_TOKEN"] = token = secrets.token_hex(16)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o777)
        canary = folder / "canary"
        canary.write_text("untouched")
        canary.chmod(0o666)
        listener = socket.create_server(("127.0.0.1", 0))
        listener.settimeout(0.2)
        calls: list[object] = []
        stop = threading.Event()

        def listen() -> None:
            while not stop.is_set():
                try:
                    calls.append(listener.accept())
                except TimeoutError:
                    continue

        watcher = threading.Thread(target=listen)
        watcher.start()
        victim = subprocess.Popen(["sleep", "600"])
        hostile = programs(canary=canary, port=listener.getsockname()[1], victim=victim.pid, token=token)
        names = [n for n in hostile if not config.get("only") or n in str(config["only"]).split(",")]
        sources = [GOOD]
        for program in names:
            sources += [hostile[program], GOOD]
        began = time.monotonic()
        with Pool(2, refuse=list(config.get("refuse") or [])) as pool:  # type: ignore[call-overload]
            run = pool.run(sources, TEXTS, LABELS, static_checks=bool(config.get("static", True)))
            layers = run.layers
            pids = [process.pid for process in pool._processes]
        seconds = time.monotonic() - began
        stop.set()
        watcher.join()
        good = run.votes[:, 0::2]
        lost = [names[max(0, i - 1)] for i in range(good.shape[1]) if good[:, i].tolist() != [-1, 0, 0]]
        result = {
            "programs": len(names),
            "lost": lost,
            "breaches": [names[i] for i in range(len(names)) if (run.votes[:, 2 * i + 1] == 1).any()],
            "canary": canary.read_text() if canary.exists() else "gone",
            "files": sorted(path.name for path in folder.iterdir()),
            "calls": len(calls),
            "victim_alive": victim.poll() is None,
            "left_over": [pid for pid in pids if _alive(pid)],
            "denied": list(layers.denied),
            "possible": list(layers.possible),
            "missing": layers.missing,
            "seconds": round(seconds, 1),
            "peak_mb": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024,
            "uid": os.getuid(),
            "status": {names[i]: [str(s) for s in run.status[:, 2 * i + 1]] for i in range(len(names))},
        }
        victim.kill()
        victim.wait()
        listener.close()
        return result


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]) if len(sys.argv) > 1 else {})))
