"""`rft.pairs`: writes training rows from the completions of a run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.text import Text

from rft.api.calls import configuration, make_console
from rft.config.commands import load_pairs
from rft.config.overrides import Overrides
from rft.config.pairs import PairsConfig
from rft.run_folder.pair_files import RowCounts, write_rows
from rft.wording import plural


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Pairs:
    """Training rows from the completions of a run.

    Example:
        Pairs(file=Path("pairs.jsonl"), noun="preference pair", counts=RowCounts(rows=12, groups=40, ...), damaged=())
    """

    file: Path
    """The file of the rows."""
    noun: str
    """Name of a row: `preference pair` or `demonstration`."""
    counts: RowCounts
    """Numbers of rows and groups, and what was left out by reason."""
    damaged: tuple[str, ...]
    """Warnings about damaged files of the run."""

    @property
    def origin(self) -> str:
        """The numbers of rows, prompts and groups in words."""
        rows, prompts = plural(self.counts.rows, self.noun), plural(len(self.counts.prompts), "prompt")
        return f"{rows} of {prompts}, from {plural(self.counts.groups, 'group')} of completions"

    def __repr__(self) -> str:
        return f"<rft.Pairs {self.file}: {self.origin}>"


def pairs(*overrides: Overrides, quiet: bool = False) -> Pairs:
    """Write preference pairs, or demonstrations, from the completions of a run, as `rft pairs` does.

    Args:
        overrides: As on the command line: `"run=runs/..."`, `"out=pairs.jsonl"`, `"rows=demonstrations"`; or mappings.
        quiet: Print nothing; otherwise the counts of rows, and of what was left out, are shown.

    Raises:
        ConfigError: With every problem of the configuration.
        UsageError: The run or the file cannot be used, or no row results.
        WriteError: The file cannot be written.

    Example:
        rows = rft.pairs({"run": run.folder, "out": "best.jsonl", "rows": "demonstrations", "min_reward": 1.0})
        rft.train("experiment=quickstart", "learner=sft", {"data.train": rows.file})
    """
    return write_pairs(configuration(load_pairs, overrides), make_console(quiet=quiet))


def write_pairs(config: PairsConfig, console: Console) -> Pairs:
    """Write the rows of a checked configuration, unless `dry_run`; print their counts and what was left out.

    Raises:
        UsageError: The run or the file cannot be used, or no row results.
        WriteError: The file cannot be written.
    """
    damaged: list[str] = []
    counts = write_rows(config, damaged.append)
    noun = "preference pair" if config.rows == "preferences" else "demonstration"
    written = Pairs(file=Path(config.out or ""), noun=noun, counts=counts, damaged=tuple(damaged))
    made = f"{'would write' if config.dry_run else 'wrote'} {written.origin}, to {config.out}"
    lines = [made, *(f"  {line}" for line in counts.lines()), *(f"warning: {line}" for line in damaged)]
    console.print(Text("\n".join(lines)), soft_wrap=True)
    return written
