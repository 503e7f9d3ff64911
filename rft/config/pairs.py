"""The configuration of `rft pairs`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from rft.config.fields import Number, Positive, Section

SUFFIX = ".jsonl"
"""Suffix of the files that `rft pairs` writes."""


class PairsConfig(Section):
    """Training rows from the rollouts of a run: `rft pairs`."""

    run: str | None = None
    """The run folder. Completions of its training tasks become rows; those of measurements do not."""
    out: str | None = None
    """The `.jsonl` file to write; it must not exist."""
    rows: Literal["preferences", "demonstrations"] = "preferences"
    """Rows to write: the best and the worst completion of each group, or its best completion alone."""
    min_gap: Annotated[Number, Field(ge=0)] = 0.0
    """The rewards of the chosen and the rejected completion must differ by more than this."""
    min_reward: Number | None = None
    """Lowest reward of a chosen completion or a demonstration. Demonstrations may then come from groups of equal
    rewards, too. null sets no limit."""
    max_per_prompt: Positive | None = None
    """Largest number of rows of one prompt, from the first step; null sets no limit."""
    dry_run: bool = False
    """Read the rollouts, count the rows, and write nothing."""


def pairs_problems(config: PairsConfig) -> list[str]:
    """Return all problems of a configuration of `rft pairs`, one sentence each."""
    problems = []
    if config.run is None:
        problems.append("run is missing: the run folder to read, such as run=runs/quickstart/<time>")
    if config.out is None:
        problems.append(f"out is missing: the file to write, such as out=pairs{SUFFIX}")
    elif Path(config.out).suffix != SUFFIX:
        problems.append(f"out={config.out}: must end in {SUFFIX}, the only format that rft pairs writes")
    if config.rows == "demonstrations" and config.min_gap > 0:
        problems.append(
            f"min_gap={config.min_gap:g}: demonstrations have no rejected completion; use min_reward, or leave it out"
        )
    return problems
