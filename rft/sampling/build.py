"""Builds the engine of a spec."""

from __future__ import annotations

import importlib
import os
from contextlib import nullcontext

from rft.imports import large_imports, prepare_bitsandbytes
from rft.sampling.engine import Engine
from rft.sampling.spec import EngineSpec


def build_engine(spec: EngineSpec) -> Engine:
    """Build the engine of the sampler's settings, and import its library only now."""
    # OpenMP reads this once, during the load of the library.
    os.environ["OMP_NUM_THREADS"] = str(spec.place.num_threads)
    if not spec.place.on_gpu:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # Ray hides no GPU from an actor without one
    prepare_bitsandbytes(is_used=False)
    module, _, name = spec.sampler.engine_class.partition(":")
    with large_imports() if spec.sampler.libraries else nullcontext():
        engine_class = getattr(importlib.import_module(module), name)
    engine: Engine = engine_class(spec)
    return engine
