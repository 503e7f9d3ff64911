"""Imports of large libraries without the garbage collector."""

from __future__ import annotations

import atexit
import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def large_imports() -> Iterator[None]:
    """Pause the garbage collector while the block imports large libraries: torch, vLLM, TRL.

    Their modules consist of about a million permanent objects. The collector would traverse these objects repeatedly
    during the import, which takes a fifth of the time of importing vLLM, and again in every later `gc.collect()`. It
    therefore pauses, and ignores these objects until the program ends.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        # Python's own end frees what is no longer frozen; extension modules report the rest as leaked.
        atexit.register(gc.unfreeze)
        if was_enabled:
            gc.enable()
