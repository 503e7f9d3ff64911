"""The table of faults: kinds x targets x moments. Each combination is a cell, or has a reason why it is none.

A cell says what must happen. `tests/chaos/harness.py` runs one, `tests/chaos/oracle.py` judges it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations, product
from typing import Literal

KINDS = ("kill", "exit", "segfault", "freeze", "slow", "lying weights", "disk full", "torn file")
TARGETS = (
    "sampler",
    "one of two samplers",
    "learner",
    "rank",
    "fork server",
    "grader worker",
    "raylet",
    "head",
    "driver",
)
MOMENTS = (
    "starting",
    "idle",
    "sampling",
    "grading",
    "learning",
    "publishing",
    "loading",
    "proving",
    "checkpointing",
    "measuring",
    "closing",
)
SAMPLERS, LEARNERS, RAY = TARGETS[:2], TARGETS[2:4], TARGETS[6:8]
FAULTS_OF_PROCESSES = KINDS[:5]

Equality = Literal["bits", "rewards", "tasks"]
"""`bits`: everything. `rewards`: completions and rewards, and weights up to rounding, since vLLM rounds differently in
other batches. `tasks`: the completions that were made, since timing matters when sampling ahead."""

Ending = Literal["goes on", "resumes"]
"""`goes on`: the command ends with exit code 0 in spite of the fault. `resumes`: it ends, and the same command finishes
the run."""


@dataclass(frozen=True, slots=True)
class Cell:
    """A fault and what must follow from it."""

    kind: str
    target: str
    moment: str
    staleness: int = 0
    engine: str = "transformers"
    learner: str = "grpo"
    trials: int = 1
    """Trials of a sweep; 1 is a single run."""

    @property
    def name(self) -> str:
        """The cell in words, such as `kill learner, learning`."""
        variant = [f"staleness {self.staleness}"] if self.staleness else []
        variant += [self.engine] if self.engine != "transformers" else []
        variant += [self.learner] if self.learner != "grpo" else []
        variant += [f"{self.trials} trials"] if self.trials > 1 else []
        return ", ".join([f"{self.kind} {self.target}", self.moment, *variant])

    @property
    def ending(self) -> Ending:
        """Whether the command that was struck goes on, or ends and is resumed."""
        if self.kind == "slow" or (self.kind == "freeze" and self.target == "driver"):
            return "goes on"
        if self.target in (*RAY, "driver") or self.kind == "disk full":
            return "resumes"
        if self.kind == "lying weights" and self.target in LEARNERS:
            return "resumes"
        return "goes on"

    @property
    def restarts(self) -> Literal["sampler", "learner"] | None:
        """The part that the run must have started again, if it must."""
        is_lost = self.kind not in ("slow", "disk full") and self.ending == "goes on"
        if not is_lost or self.moment in ("starting", "idle", "measuring", "closing"):
            return None  # the run may not need the part any more, or has no step yet that could count the restart
        if self.target == "one of two samplers":
            return None  # the other one may finish the run before a new engine is ready
        return "sampler" if self.target == "sampler" else "learner" if self.target in LEARNERS else None

    @property
    def exit_codes(self) -> tuple[int, ...]:
        """Allowed exit codes of the command that was struck."""
        if self.ending == "goes on":
            return (0,)
        if self.kind == "disk full":
            return (74,) if self.target == "driver" else (1, 74)
        if self.target in RAY:
            return self._exit_codes_without_ray
        by_signal = {"kill": (-9,), "torn file": (-9,), "segfault": (-11, -6), "exit": (143,)}
        return by_signal[self.kind] if self.target == "driver" else (1,)

    @property
    def message(self) -> str:
        """Pattern in the output of the command that was struck."""
        if self.ending == "goes on" or (self.target == "driver" and self.kind != "disk full"):
            return "resume" if self.kind == "exit" and self.target == "driver" and self.has_checkpoint else ""
        if self.target in RAY and self.exit_codes != (69,):
            return ""
        if self.kind == "disk full":
            return r"(?i)disk|space|too large"
        if self.kind == "lying weights":
            return r"(?s)(weights|fingerprint).*resume"
        return "rft: .*resume" if self.has_checkpoint else "rft: "

    @property
    def _exit_codes_without_ray(self) -> tuple[int, ...]:
        if (self.kind, self.target) == ("exit", "head"):
            return (69, 0)  # a head that ends in order lives on for seconds, in which a short run may finish
        return (69, 0) if self.moment == "closing" else (69,)  # the result may be complete

    @property
    def has_checkpoint(self) -> bool:
        """Whether the run has a complete checkpoint when the fault strikes."""
        return self.moment not in ("starting", "idle")

    @property
    def equality(self) -> Equality:
        """How far the result must equal that of the undisturbed run."""
        return "tasks" if self.staleness else "rewards" if self.engine == "vllm" else "bits"

    @property
    def outcome(self) -> str:
        """What must happen, as a sentence of the table."""
        again = {"sampler": "; a new sampler proves its policy", "learner": "; the learner starts again"}
        if self.ending == "goes on":
            return f"goes on{again.get(self.restarts or '', '')}"
        return f"ends{' with a message' if self.message else ''}; the same command finishes the run"


def why_none(kind: str, target: str, moment: str) -> str | None:
    """Return why a combination cannot happen, or means nothing; None if it can."""
    if target in ("fork server", "grader worker") and moment in ("starting", "idle"):
        return "it starts for the first completion"
    return {"lying weights": _no_lie, "disk full": _no_full_disk, "torn file": _no_torn_file}.get(
        kind, lambda target, moment: None
    )(target, moment)


def _no_lie(target: str, moment: str) -> str | None:
    moments = {
        "sampler": ("loading", "proving"),
        "one of two samplers": ("loading", "proving"),
        "learner": ("publishing",),
        "rank": ("learning",),
    }
    if target not in moments:
        return "it holds no weights"
    if moment not in moments[target]:
        return f"its weights change only while {' or '.join(moments[target])}"
    return None


def _no_full_disk(target: str, moment: str) -> str | None:
    if target not in (*LEARNERS, "driver"):
        return "it writes no file of the run"
    if target in LEARNERS and moment in ("measuring", "closing"):
        return "its last checkpoint is written"
    return None


def _no_torn_file(target: str, moment: str) -> str | None:
    if target not in (*LEARNERS, "driver"):
        return "it writes no file of the run"
    if moment in ("starting", "idle"):
        return "no checkpoint and no line is written"
    if target in LEARNERS and moment in ("measuring", "closing"):
        return "nothing reads its checkpoints any more"
    return None


def _kind_at(target: str, moment: str) -> str:
    """Return the fault of a process for this target and moment; every target meets all of them, and every moment."""
    place = 2 * TARGETS.index(target) + MOMENTS.index(moment)
    return FAULTS_OF_PROCESSES[place % len(FAULTS_OF_PROCESSES)]


def _chosen() -> Iterator[Cell]:
    for target, moment in product(TARGETS, MOMENTS):
        yield Cell(_kind_at(target, moment), target, moment)
    yield from (Cell("lying weights", target, moment) for target, moment in product(TARGETS, MOMENTS))
    for kind in ("disk full", "torn file"):
        yield from (Cell(kind, "driver", moment) for moment in MOMENTS)
        for target, moment in (("learner", "learning"), ("learner", "checkpointing"), ("rank", "checkpointing")):
            yield Cell(kind, target, moment)
    # What happens most: a process is gone while it works.
    for target, moments in {
        "sampler": ("sampling", "loading", "proving", "measuring"),
        "one of two samplers": ("sampling", "loading", "proving", "measuring"),
        "learner": ("learning", "publishing", "checkpointing"),
        "rank": ("learning", "publishing", "checkpointing"),
        "fork server": ("grading",),
        "grader worker": ("grading",),
        "raylet": ("sampling", "learning", "checkpointing"),
        "head": ("sampling", "learning", "checkpointing"),
        "driver": ("sampling", "learning", "checkpointing", "measuring", "closing"),
    }.items():
        yield from (Cell("kill", target, moment) for moment in moments)
    # A process that is there but silent.
    yield from (Cell("freeze", target, "sampling") for target in SAMPLERS)
    yield from (Cell("freeze", target, "learning") for target in (*LEARNERS, *RAY))
    yield Cell("freeze", "driver", "starting")
    yield Cell("slow", "learner", "idle")


CELLS = tuple(dict.fromkeys(cell for cell in _chosen() if why_none(cell.kind, cell.target, cell.moment) is None))
"""The cells, each once."""


VARIANTS = (
    *(
        Cell("kill", target, moment, staleness=1)
        for target, moment in (("sampler", "sampling"), ("one of two samplers", "loading"), ("learner", "learning"))
    ),
    Cell("kill", "driver", "sampling", staleness=1),
    Cell("freeze", "one of two samplers", "sampling", staleness=1),
    Cell("kill", "sampler", "sampling", engine="vllm"),
    Cell("kill", "one of two samplers", "loading", engine="vllm"),
    Cell("freeze", "sampler", "sampling", engine="vllm"),
    Cell("kill", "driver", "learning", engine="vllm"),
    Cell("kill", "learner", "learning", learner="ppo"),
    Cell("kill", "learner", "learning", trials=2),
    Cell("kill", "sampler", "sampling", trials=2),
)
"""Cells of the table again: with sampling ahead, vLLM, PPO, or in a sweep whose trials share their samplers."""


def pairs(kind: str, target: str, moment: str) -> list[tuple[str, str]]:
    """Return the three pairs of a combination."""
    return list(combinations((kind, target, moment), 2))


def reason(kind: str, target: str, moment: str) -> str | None:
    """Return why a combination is not in the table; None for a cell."""
    if Cell(kind, target, moment) in CELLS:
        return None
    if why := why_none(kind, target, moment):
        return why
    return "its three pairs have cells: " + "; ".join(
        next(cell.name for cell in CELLS if set(pair) <= {cell.kind, cell.target, cell.moment})
        for pair in pairs(kind, target, moment)
    )
