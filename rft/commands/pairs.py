"""`rft pairs`: write training rows from the rollouts of a run."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from rft.commands.configured import configured
from rft.config.commands import load_pairs
from rft.config.pairs import PairsConfig
from rft.wording import plural


def pairs(words: list[str]) -> int:
    """Write the rows, and print their counts and what was left out."""
    return configured(
        "pairs", words, lambda overrides, _: load_pairs(overrides), lambda config: run_pairs(config, console=Console())
    )


def run_pairs(config: PairsConfig, *, console: Console) -> int:
    """Write the rows of a checked configuration.

    Returns:
        The exit code, 0.

    Raises:
        UsageError: The run or the file cannot be used, or no row results.
        WriteError: The file cannot be written.
    """
    from rft.run_folder.pair_files import write_rows

    damaged: list[str] = []
    counts = write_rows(config, damaged.append)
    noun = "preference pair" if config.rows == "preferences" else "demonstration"
    rows, prompts = plural(counts.rows, noun), plural(len(counts.prompts), "prompt")
    made = (
        f"{'would write' if config.dry_run else 'wrote'} {rows} of {prompts}, from {plural(counts.groups, 'group')} "
        f"of completions, to {config.out}"
    )
    lines = [made, *(f"  {line}" for line in counts.lines()), *(f"warning: {line}" for line in damaged)]
    console.print(Text("\n".join(lines)), soft_wrap=True)
    return 0
