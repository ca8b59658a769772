"""The process of a run that the studio started: `factory` with the same words, which ends with the studio, however that ends.

    python -m factory.studio.child run pipeline.yaml

Its standard input is a pipe that the studio holds open. The end of that pipe is Ctrl-C here, and after a while the end.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading
import time

GRACE_S = 10.0
"""Seconds for a step to store what it has."""


def main() -> None:
    """Run the command line with the words after this module's name."""
    threading.Thread(target=_watch, daemon=True).start()
    runpy.run_module("factory", run_name="__main__")


def _watch() -> None:
    while os.read(0, 4096):
        pass
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(int(threading.main_thread().ident or 0), signal.SIGINT)
    else:
        import _thread

        _thread.interrupt_main()
    time.sleep(GRACE_S)
    os._exit(130)


if __name__ == "__main__":
    sys.argv[0] = "factory"
    main()
