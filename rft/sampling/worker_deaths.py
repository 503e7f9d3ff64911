"""Ends a sampler together with the worker processes of its vLLM engine."""

from __future__ import annotations

import multiprocessing.connection
import os
import sys
import threading
from collections.abc import Sequence
from typing import Any


def exit_with_workers(workers: Sequence[Any]) -> None:
    """End this process at once when a worker process of the engine dies, so that a new sampler takes its place.

    vLLM itself raises errors that do not tell a dead worker from a fault that a new engine would have, too.

    Args:
        workers: Handles of vLLM's workers; the sentinel of `proc` is ready when the process has ended.
    """

    def wait() -> None:
        multiprocessing.connection.wait([worker.proc.sentinel for worker in workers])
        sys.stderr.write("rft: a worker process of vLLM died, so this sampler ends\n")
        sys.stderr.flush()
        os._exit(1)

    threading.Thread(target=wait, name="exit-with-workers", daemon=True).start()
