"""The report at the end of a run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from rft.metrics.comparison import COMPARISON_COLUMNS, Comparison, comparison_notes, comparison_rows
from rft.metrics.families import FAMILY_COLUMNS, family_rows
from rft.metrics.held_out import caveats
from rft.metrics.independent_report import independent_in_words
from rft.metrics.intervals import Estimate
from rft.metrics.retention_report import retention_header, retention_notes, retention_rows
from rft.models.quantized_folder import comparison_in_words
from rft.types import Message
from rft.wording import plural

PROMPT_CHARACTERS = 300
COMPLETION_CHARACTERS = 600
TEXT_LINES = 14
"""Longer texts are cut in the middle, because start and end of a completion both matter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleComparison:
    """One completion of a held-out task from before the run, and one from after it.

    Example:
        SampleComparison(task_id="3f1c...", prompt="2 + 2 = ?", before="5", before_reward=0.0, after="4",
                         after_reward=1.0)
    """

    task_id: str
    """`Task.id` of the task."""
    prompt: str
    """Last message of the prompt."""
    before: str
    """The base model's completion."""
    before_reward: float | None
    """Its reward, or None."""
    after: str
    """The trained model's completion."""
    after_reward: float | None
    """Its reward, or None."""


def choose_samples(
    before: Iterable[Mapping[str, Any]], after: Iterable[Mapping[str, Any]], count: int = 3
) -> tuple[SampleComparison, ...]:
    """Return the first completions of the first common tasks, regardless of their rewards.

    Args:
        before: Lines of rollouts.jsonl, from `read_rollouts`.
        after: Lines of rollouts.jsonl, from `read_rollouts`.
        count: Number of tasks.
    """
    earlier = {line["task_id"]: line for line in before if line["index"] == 0}
    later = {line["task_id"]: line for line in after if line["index"] == 0}
    return tuple(
        SampleComparison(
            task_id=task_id,
            prompt=_message_text(_last_message(line)),
            before=line["completion"],
            before_reward=line["reward"],
            after=later[task_id]["completion"],
            after_reward=later[task_id]["reward"],
        )
        for task_id, line in [pair for pair in earlier.items() if pair[0] in later][:count]
    )


def _last_message(line: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the last message of the prompt, which the environment of an episode may have written."""
    first = [turn for turn in line.get("turns", [])[:1] if turn["author"] == "environment"]
    openings: list[Mapping[str, Any]] = [message for turn in first for message in turn["messages"]]
    last: Mapping[str, Any] = [*line["messages"], *openings][-1]
    return last


def final_report(
    console: Console,
    *,
    summary: Mapping[str, Any],
    samples: Sequence[SampleComparison] = (),
    paths: Mapping[str, Path],
) -> None:
    """Print held-out results, samples, policy syncs, drops, times and paths of a run.

    Args:
        console: Output.
        summary: Result of `build_summary`.
        samples: Result of `choose_samples`. Model output is untrusted: no markup, no control characters.
        paths: Paths by name, such as `{"run": ..., "adapter": ..., "plot": ...}`.
    """
    console.print()
    _print_results(console, summary)
    if fit := summary.get("fit"):
        _print_text(console, fit["text"])
    for finding in summary.get("watch") or ():
        _print_text(console, f"step {finding['step']}: {finding['text']}")
    if judged := summary.get("feasibility"):
        _print_text(console, f"before the run, feasibility was judged: {judged['text']}")
    _print_samples(console, samples)
    if summary["syncs"]:
        proved, syncs = summary["syncs_proved"], summary["syncs"]
        share = f"all {syncs}, by every sampler" if proved == syncs else f"{proved} of {syncs}"
        _print_pairs(console, "Policy syncs", {"proved": share})
    if summary["drops"]:
        _print_pairs(console, "Rollouts without a reward", {cause: str(n) for cause, n in summary["drops"].items()})
    if pairs := summary.get("pairs"):
        _print_pairs(console, "Preference pairs", {name.replace("_", " "): str(count) for name, count in pairs.items()})
    if compared := summary.get("original_base"):
        _print_text(console, comparison_in_words(compared))
    if recovery := summary.get("recovery"):
        _print_pairs(console, "Recovery", {name.replace("_", " "): str(number) for name, number in recovery.items()})
    times = {name.replace("_", " "): f"{seconds:.1f} s" for name, seconds in summary["time_s"].items()}
    if retrieval := summary.get("retrieval"):
        times["passages"] = f"{retrieval['seconds']:.1f} s before the run, {retrieval['share']:.1%} of all"
    if (busy := summary.get("engine_busy_share")) is not None:
        times["engines busy"] = f"{busy:.0%} of the episodes' time"
    _print_pairs(console, "Time", {**times, "whole run": f"{summary['wall_s']:.1f} s"})
    _print_pairs(console, "Files", {name: str(path) for name, path in paths.items()})


def verdict(difference: Estimate) -> str:
    """Describe the difference after minus before."""
    if difference.ci95 is None:
        return "too few tasks to decide whether the model changed"
    low, high = difference.ci95
    if low > 0:
        return "better: the whole 95% interval lies above zero"
    if high < 0:
        return "worse: the whole 95% interval lies below zero"
    return "no difference detected: the 95% interval contains zero"


def _print_results(console: Console, summary: Mapping[str, Any]) -> None:
    """Print the table of before and after."""
    evaluation = summary["eval"]
    _print_text(console, f"{summary['status']} after {plural(summary['steps'], 'step')}", style="bold")
    measured = {name: evaluation.get(name) for name in ("before", "after", "difference")}
    if not any(measured.values()):
        _print_text(console, "The run has no held-out measurement, so its improvement is unknown.")
        return
    about = {key: value for key, value in evaluation.items() if key not in measured and value is not None}
    caption = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in about.items())
    _print_text(console, f"Held-out tasks: {caption}" if caption else "Held-out tasks")
    table = Table(box=box.ROUNDED)
    table.add_column("")
    table.add_column("mean", justify="right")
    table.add_column("95% interval", justify="right")
    table.add_column("tasks", justify="right")
    for name, obj in measured.items():
        if obj is not None:
            value = Estimate.from_json(obj)
            is_difference = name == "difference"
            mean, interval = value.text(signed=is_difference).split(" ", 1)
            label = "after - before" if is_difference else name
            table.add_row(label, mean, Text(interval), str(value.n), style="bold" if is_difference else "")
    console.print(table)
    for label, caveat in caveats(evaluation).items():
        _print_text(console, f"{label}: {caveat}")
    if measured["difference"]:
        _print_text(console, verdict(Estimate.from_json(measured["difference"])), style="bold")
    if independent := summary.get("independent"):
        _print_text(console, independent_in_words(independent))
    _print_families(console, summary)
    if arms := summary.get("arms"):
        _print_arms(console, Comparison.from_json(arms))


def _print_arms(console: Console, comparison: Comparison) -> None:
    """Print the arms of a run with retrieval, and their differences."""
    if comparison.means:
        _print_table(console, COMPARISON_COLUMNS, comparison_rows(comparison))
    for note in comparison_notes(comparison):
        _print_text(console, note)


def _print_families(console: Console, summary: Mapping[str, Any]) -> None:
    """Print the results of task families, and how much of earlier stages is retained."""
    if families := summary.get("families"):
        _print_table(console, FAMILY_COLUMNS, family_rows(families))
    if retained := summary.get("retention"):
        if len(retained["stages"]) > 2:  # otherwise, the table above shows both
            _print_table(console, retention_header(retained), retention_rows(retained))
        for note in retention_notes(retained):
            _print_text(console, note)


def _print_table(console: Console, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table whose first column has names and whose other columns have numbers."""
    table = Table(box=box.ROUNDED)
    for number, column in enumerate(header):
        table.add_column(Text(column), justify="right" if number else "left")
    for row in rows:
        table.add_row(*map(Text, row))
    console.print(table)


def _print_samples(console: Console, samples: Sequence[SampleComparison]) -> None:
    """Print prompts, each with its two completions side by side."""
    if not samples:
        return
    console.print()
    _print_text(console, "Samples before and after", style="bold")
    how = f"the first {len(samples)} held-out tasks, the first completion of each; not selected by result"
    _print_text(console, how, style="dim")
    for number, sample in enumerate(samples, 1):
        console.print()
        console.print(Text(f"{number}. " + _excerpt(sample.prompt, PROMPT_CHARACTERS, console), overflow="fold"))
        table = Table(box=box.ROUNDED, expand=True)
        for name, reward in (("before", sample.before_reward), ("after", sample.after_reward)):
            score = "no reward" if reward is None else f"reward {reward:g}"
            table.add_column(f"{name}: {score}", ratio=1, overflow="fold")
        texts = (_excerpt(text, COMPLETION_CHARACTERS, console) for text in (sample.before, sample.after))
        table.add_row(*(Text(text, overflow="fold") if text else Text("(empty)", style="dim") for text in texts))
        console.print(table)


def _print_pairs(console: Console, title: str, pairs: Mapping[str, str]) -> None:
    """Print names and values under a title. Long values are not wrapped, so that paths can be copied."""
    console.print()
    _print_text(console, title, style="bold")
    width = max(map(len, pairs), default=0)
    for name, value in pairs.items():
        _print_text(console, f"  {name:<{width}}  {value}")


def _print_text(console: Console, text: str, style: str = "") -> None:
    """Print one line without wrapping and markup."""
    console.print(Text(_visible(text, console), style=style), soft_wrap=True)


def _message_text(message: Message) -> str:
    """Return the text of a message whose content is a string or OpenAI's list of parts."""
    content = message.get("content") or ""
    if isinstance(content, str):
        return content
    return "\n".join(str(part.get("text", f"({part.get('type')})")) for part in content)


def _excerpt(text: str, limit: int, console: Console) -> str:
    """Return an excerpt: two thirds from the start and one third from the end of the text."""
    text = text.strip()
    if len(text) > limit:
        cut = len(text) - limit
        text = f"{text[: limit * 2 // 3]} ... ({cut} characters omitted) ... {text[len(text) - limit // 3 :]}"
    lines = text.split("\n")
    if len(lines) > TEXT_LINES:
        cut = len(lines) - TEXT_LINES
        head, tail = lines[: TEXT_LINES * 2 // 3], lines[-(TEXT_LINES // 3) :]
        lines = [*head, f"... ({cut} lines omitted) ...", *tail]
    return "\n".join(_visible(line, console) for line in lines)


def _visible(text: str, console: Console) -> str:
    """Escape control characters and characters that the console's encoding lacks."""
    safe = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
    return safe.encode(console.encoding, "backslashreplace").decode(console.encoding)
