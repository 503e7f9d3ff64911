"""Builds the engine of a spec: the one place that imports the engines."""

from __future__ import annotations

import os

from rft.imports import large_imports
from rft.sampling.engine import Engine
from rft.sampling.spec import EngineSpec


def build_engine(spec: EngineSpec) -> Engine:
    """Build the engine, importing its library only now."""
    # OpenMP reads this once, when the library is loaded.
    os.environ["OMP_NUM_THREADS"] = str(spec.num_threads)
    if spec.kind == "vllm":
        with large_imports():
            from rft.sampling.vllm_engine import VllmEngine

        return VllmEngine(spec)
    if spec.kind == "transformers":
        with large_imports():
            from rft.sampling.transformers_engine import TransformersEngine

        return TransformersEngine(spec)
    from rft.sampling.fake_engine import FakeEngine

    return FakeEngine(spec)
