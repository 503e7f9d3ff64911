"""Imports of large libraries, without the garbage collector."""

from __future__ import annotations

import atexit
import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def large_imports() -> Iterator[None]:
    """Import large libraries here: torch, vLLM, TRL.

    Their modules are about a million objects that all stay. The collector would traverse them again and again while
    their number grows, which takes a fifth of the time of importing vLLM, and again in every `gc.collect()` that
    follows. So it rests meanwhile, and passes over them until the program ends.
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
