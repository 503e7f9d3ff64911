"""Who may import whom: only what stands below, so that nothing goes in circles and each part can be read alone.

The table is the map of the code. Parts of one line do not know each other; a line of a floor may use the lines above it
in the table. A package is one part; within it, modules may import each other, though not in a circle.
"""

import ast
import functools
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

from tests.parsed import STATEMENTS, parsed

ROOT = Path(__file__).parents[1]

FLOORS: dict[int, tuple[tuple[str, ...], ...]] = {
    # The words of the project: records and errors. Standard library only.
    1: (
        ("rft.turns",),
        ("rft", "rft.types", "rft.errors"),
        ("rft.waiting", "rft.redaction", "rft.imports", "rft.wording", "rft.reliability"),
    ),
    # What is done with the records. No torch.
    2: (("rft.grading", "rft.data", "rft.metrics", "rft.storage"),),
    # What a run is asked to be: its base model, its configuration, its graders.
    3: (
        ("rft.models",),
        ("rft.config", "graders"),
        ("rft.embedded",),
    ),
    # The two halves of a run, neither of which knows the other, and the memory that both need.
    4: (("rft.memory", "rft.retrieval"), ("rft.sampling", "rft.learning")),
    # One page that a stranger reads first: sample, grade, learn, sync.
    5: (("rft.batches",), ("rft.loop", "rft.episodes")),
    # What surrounds the loop.
    6: (
        ("rft.events",),
        ("rft.terminal", "rft.trackers"),
        ("rft.run_folder", "rft.auditing"),
        ("rft.health",),
        ("rft.evidence",),
    ),
    # The composition root: the only place that knows concrete classes.
    7: (
        ("rft.cluster",),
        ("rft.run",),
        ("rft.pipeline",),
        ("rft.api",),
        ("rft.sweep", "rft.doctor"),
        ("rft.commands",),
        ("rft.cli",),
    ),
}

PLACES = {
    part: (floor, number) for floor, lines in FLOORS.items() for number, line in enumerate(lines) for part in line
}
"""Floor of each part, and its line there."""
FILES = sorted([*ROOT.glob("rft/**/*.py"), *ROOT.glob("graders/**/*.py")])


def module_of(file: Path) -> str:
    """`rft/data/files.py` is `rft.data.files`, `rft/data/__init__.py` is `rft.data`."""
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(file): file for file in FILES}


def part_of(module: str) -> str:
    """The entry of the table that a module belongs to: `rft.data.files` to `rft.data`."""
    depth = 1 if module.partition(".")[0] == "graders" else 2
    return ".".join(module.split(".")[:depth])


def nodes_of(tree: ast.AST, *, on_import: bool) -> Iterator[ast.AST]:
    """All statements, or only those that run on import: not those in functions or for type checkers."""
    for node in ast.iter_child_nodes(tree):
        if not isinstance(node, STATEMENTS):
            continue
        is_typing = isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
        if not (on_import and (is_typing or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))):
            yield node
            yield from nodes_of(node, on_import=on_import)


@functools.cache
def imports_of(module: str, *, on_import: bool = False) -> tuple[str, ...]:
    """The modules of ours that a module imports: wherever it does, for types only or not; or only on its own import."""
    imported = []
    for node in nodes_of(parsed(MODULES[module]), on_import=on_import):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: imports are written in full"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            # `from rft.types import Task` is `rft.types.Task` here; `from rft import build` is `rft.run.build`.
            longest = next((name.rsplit(".", n)[0] for n in range(3) if name.rsplit(".", n)[0] in MODULES), None)
            if longest is not None and longest != module:
                imported.append(longest)
    return tuple(imported)


def test_every_module_has_its_place() -> None:
    assert {part_of(module) for module in MODULES} == set(PLACES), "place it in FLOORS, or take it out"
    assert len(PLACES) == sum(len(line) for lines in FLOORS.values() for line in lines), "a part is there twice"


def test_imports_go_down() -> None:
    upward = [
        f"{module} (floor {PLACES[part_of(module)][0]}) imports {imported} (floor {PLACES[part_of(imported)][0]})"
        for module in MODULES
        for imported in imports_of(module)
        if part_of(imported) != part_of(module) and not PLACES[part_of(imported)] < PLACES[part_of(module)]
    ]
    assert upward == []


def test_graders_know_nothing_but_grading() -> None:
    for module in MODULES:
        if module.startswith("graders"):
            parts = {part_of(imported) for imported in imports_of(module)}
            assert parts <= {"graders", "rft.grading", "rft.types", "rft.errors"}


def test_no_module_imports_itself_in_a_circle() -> None:
    # Imports inside of functions and for types count as well.
    # A package runs before its modules, and imports some of them; that they stand in it is no circle.
    graph = {
        module: {other for other in imports_of(module) if not module.startswith(f"{other}.")} for module in MODULES
    }
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


def test_imports_are_found_wherever_they_are() -> None:
    # At the top, for types only, and inside of functions.
    assert {"rft.config", "rft.api.train", "rft.sweep.grid"} <= set(imports_of("rft.commands.train"))
    assert "rft.api.evaluate" in set(imports_of("rft.commands.evaluate"))
    on_import = set(imports_of("rft.commands.train", on_import=True))
    assert "rft.config" in on_import
    assert not {"rft.api.train", "rft.sweep.grid"} & on_import
    assert "rft.run.build" in set(imports_of("rft.run.parts"))
