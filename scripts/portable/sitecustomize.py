"""Hides AVX-512 and AMX from vLLM in every Python process that has this folder in PYTHONPATH.

vLLM chooses its kernels with the functions of `torch.cpu`, and has no setting for this choice.
"""

import importlib.util
import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any


class _WithoutAvx512(MetaPathFinder):
    """Finds the installed `torch.cpu`, and changes its results after its import."""

    def find_spec(self, fullname: str, path: Any, target: ModuleType | None = None) -> ModuleSpec | None:
        if fullname != "torch.cpu":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            for name in vars(module).keys() & _QUESTIONS:
                setattr(module, name, lambda: False)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


_QUESTIONS = {
    "_is_avx512_supported",
    "_is_avx512_bf16_supported",
    "_is_amx_tile_supported",
    "_is_amx_fp16_supported",
}
sys.meta_path.insert(0, _WithoutAvx512())
