"""Turns the recorded completions of a run into training rows: preference pairs, or demonstrations.

The completions of one task in one step form a group. Only completions of training tasks become rows. Everything that
is left out is counted by its reason.
"""

from __future__ import annotations

import itertools
import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from rft.config.adapter_settings import settings_of_run
from rft.config.pairs import PairsConfig
from rft.data.files import data_error
from rft.data.messages import BadRow, has_prompt, to_messages
from rft.data.pair_selection import NoPair, select_pair
from rft.data.tasks import digest
from rft.errors import UsageError
from rft.reliability.durable import UNFINISHED, replace_file
from rft.run_folder.rollout_files import read_rollout_lines, rollout_paths
from rft.turns import Author
from rft.types import EQUAL_REWARDS, StopReason
from rft.wording import expectation, plural

TRAINING_PHASES = ("train", "pass rate")
"""Phases that sample training tasks. All others measure held-out tasks, or grade demonstrations."""
RESERVED = ("id", "messages", "prompt", "completion", "chosen", "rejected", "preferred_output", "recorded")
"""Columns with a meaning of their own in the written rows. `recorded` names the task, so `id` is not lost."""


class RecordedTurn(BaseModel):
    """The parts of a recorded turn of an episode that make a row."""

    model_config = ConfigDict(frozen=True)

    author: Author
    messages: list[dict[str, Any]]

    @property
    def has_calls(self) -> bool:
        """Whether the turn calls tools, or tells their results."""
        return any(message.get("tool_calls") or message.get("role") == "tool" for message in self.messages)


class Completion(BaseModel):
    """The parts of a recorded completion that make a row."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    step: int
    phase: str
    task_id: str
    messages: list[dict[str, Any]]
    item: dict[str, Any]
    completion: str
    num_completion_tokens: int
    stop: StopReason
    scores: dict[str, dict[str, Any]]
    reward: float | None
    turns: list[RecordedTurn] = []

    @property
    def opening(self) -> list[dict[str, Any]]:
        """The messages of an environment before the policy's first turn. Those of an agent repeat the task's prompt."""
        first = [turn for turn in self.turns[:1] if turn.author is Author.ENVIRONMENT]
        return [message for turn in first for message in turn.messages]

    @property
    def prompt(self) -> list[dict[str, Any]]:
        """The messages before the policy's first turn."""
        is_repeated = self.opening[: len(self.messages)] == self.messages
        return self.opening if is_repeated else [*self.messages, *self.opening]

    @property
    def answers(self) -> list[dict[str, Any]]:
        """The messages from the policy's first turn on."""
        if not self.turns:
            return [{"role": "assistant", "content": self.completion}]
        return [message for turn in self.turns for message in turn.messages][len(self.opening) :]

    @property
    def is_one_turn(self) -> bool:
        """Whether the policy has said everything in one turn."""
        return sum(turn.author is Author.POLICY for turn in self.turns) <= 1

    @property
    def flaw(self) -> str:
        """Return the reason why the completion cannot be in a row; empty without one."""
        if self.reward is None:
            missing = ((name, score.get("status")) for name, score in self.scores.items() if score.get("value") is None)
            name, status = next(missing, ("", "no score"))
            return f"without a reward ({f'{name}: {status}' if name else status})"
        if self.stop is not StopReason.STOP:
            return f"cut before their end ({self.stop})"  # a row's text would be read as ended
        if self.opening and has_prompt(self.messages) and self.prompt != self.opening:
            return "whose environment added to the prompt of its row, or replaced it"
        if any(turn.has_calls for turn in self.turns):
            return "with tool calls, which rows cannot hold"
        said = [str(message["content"]) for message in self.answers if message["role"] == "assistant"]
        return "" if said and all(text.strip() for text in said) else "without text"


@dataclass(kw_only=True)
class RowCounts:
    """The counts of an extraction."""

    rows: int = 0
    """Rows."""
    prompts: Counter[str] = field(default_factory=Counter)
    """Rows by task."""
    groups: int = 0
    """Groups read."""
    groups_left_out: Counter[str] = field(default_factory=Counter)
    """Groups without a row, by reason."""
    completions_left_out: Counter[str] = field(default_factory=Counter)
    """Completions that no row could contain, by reason."""
    columns_left_out: Counter[str] = field(default_factory=Counter)
    """Columns of tasks that rows do not repeat, because their names have another meaning there."""
    tokens: Counter[str] = field(default_factory=Counter)
    """Tokens of the completions in rows, by role."""

    def lines(self) -> list[str]:
        """Describe what the rows contain, and what was left out."""
        lines = [
            f"{role} completions: {total / self.rows:.1f} tokens on average" for role, total in self.tokens.items()
        ]
        for noun, counts in (("group", self.groups_left_out), ("completion", self.completions_left_out)):
            lines += [f"left out: {plural(count, noun)} {reason}" for reason, count in sorted(counts.items())]
        return lines + [
            f"left out: the column {name} of {plural(count, 'row')}, a name that rows use themselves"
            for name, count in sorted(self.columns_left_out.items())
        ]


class RowMaker:
    """Makes rows of recorded completions, and counts what it leaves out.

    Args:
        config: Kind of the rows and their limits.
        is_raw: Whether the prompts are texts that the run used without a chat template.
    """

    def __init__(self, config: PairsConfig, *, is_raw: bool) -> None:
        self.counts = RowCounts()
        self._config = config
        self._is_raw = is_raw
        self._seen: set[str] = set()

    def rows(self, lines: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
        """Yield the rows of a run's rollouts, in their order.

        Raises:
            DataError: A line is no completion.
        """
        of_group = itertools.groupby(self._trained(lines), key=lambda one: (one.phase, one.step, one.task_id))
        for _, group in of_group:
            self.counts.groups += 1
            row = self._row(self._usable(group))
            if isinstance(row, str):
                self.counts.groups_left_out[row] += 1
            else:
                yield self._counted(row)

    def _trained(self, lines: Iterable[Mapping[str, Any]]) -> Iterator[Completion]:
        """Yield the completions of training tasks."""
        for line in lines:
            if (phase := line.get("phase")) not in TRAINING_PHASES:
                self.counts.completions_left_out[f"of the phase {phase}, which trains nothing"] += 1
                continue
            yield _parsed(line)

    def _usable(self, group: Iterable[Completion]) -> list[Completion]:
        usable = []
        for one in group:
            if flaw := one.flaw or self._too_long(one):
                self.counts.completions_left_out[flaw] += 1
            else:
                usable.append(one)
        return usable

    def _too_long(self, one: Completion) -> str:
        """Return the reason why an episode has more turns than a row; empty if it has not."""
        if one.is_one_turn or (self._config.rows == "demonstrations" and not self._is_raw):
            return ""
        return "of several turns, which only rows=demonstrations of chats can hold"

    def _row(self, group: Sequence[Completion]) -> _Row | str:
        """Return the row of a group, or the reason why it has none."""
        row = self._selected(group)
        return row if isinstance(row, str) else self._surplus(row) or row

    def _selected(self, group: Sequence[Completion]) -> _Row | str:
        """Return the row of a group without regard to other groups, or the reason why it has none."""
        rewards = [one.reward for one in group]
        pair = select_pair(rewards, [one.num_completion_tokens for one in group], min_gap=self._config.min_gap)
        is_demonstration, least = self._config.rows == "demonstrations", self._config.min_reward
        if isinstance(pair, NoPair) and not (is_demonstration and least is not None and group):
            return f"with {self._worded(pair)}"
        best = max(reward for reward in rewards if reward is not None)
        if least is not None and best < least - EQUAL_REWARDS * abs(least):
            return f"without a reward of at least {least:g}"
        if is_demonstration:
            is_best = [reward is not None and math.isclose(reward, best, rel_tol=EQUAL_REWARDS) for reward in rewards]
            return _Row(chosen=group[is_best.index(True)])
        assert not isinstance(pair, NoPair)  # the reason was returned above
        chosen, rejected = (group[place] for place in pair)
        if chosen.prompt != rejected.prompt:
            return "whose environment began its best and its worst episode in different ways"
        if chosen.completion == rejected.completion:
            return "whose best and worst completions have the same text"
        return _Row(chosen=chosen, rejected=rejected)

    def _worded(self, reason: NoPair) -> str:
        return reason.replace("min_gap", f"min_gap={self._config.min_gap:g}")

    def _surplus(self, row: _Row) -> str:
        """Return the reason why a row is one too many; empty without one."""
        if row.key in self._seen:
            return "with the same row as an earlier group"
        if self.counts.prompts[row.chosen.task_id] == self._config.max_per_prompt:
            return f"beyond max_per_prompt={self._config.max_per_prompt}"
        return ""

    def _counted(self, row: _Row) -> dict[str, Any]:
        """Count a row, and return its content."""
        self._seen.add(row.key)
        self.counts.rows += 1
        self.counts.prompts[row.chosen.task_id] += 1
        self.counts.columns_left_out.update(name for name in row.chosen.item if name in RESERVED[1:])
        for role, one in row.completions.items():
            self.counts.tokens[role] += one.num_completion_tokens
        return row.content(is_raw=self._is_raw)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """The completions of a row."""

    chosen: Completion
    """The completion to learn."""
    rejected: Completion | None = None
    """The completion to avoid; None in a demonstration."""

    @property
    def completions(self) -> dict[str, Completion]:
        """The completions by role."""
        return {"chosen": self.chosen} | ({"rejected": self.rejected} if self.rejected else {})

    @property
    def key(self) -> str:
        """A hash of everything that a learner would see."""
        answers = (one.answers if one.turns else one.completion for one in self.completions.values())
        return digest([self.chosen.prompt, self.chosen.item, *answers])

    def content(self, *, is_raw: bool) -> dict[str, Any]:
        """Return the row as it is written."""
        columns = self._texts() if is_raw else self._chats()
        others = {name: value for name, value in self.chosen.item.items() if name not in RESERVED}
        rewards = {f"{role}_reward": one.reward for role, one in self.completions.items()}
        return columns | others | {"recorded": {"task_id": self.chosen.task_id, "step": self.chosen.step, **rewards}}

    def _texts(self) -> dict[str, Any]:
        prompt = {"prompt": self.chosen.prompt[-1]["content"]}
        if self.rejected is None:
            return prompt | {"completion": self.chosen.completion}
        return prompt | {"chosen": self.chosen.completion, "rejected": self.rejected.completion}

    def _chats(self) -> dict[str, Any]:
        prompt, answers = self.chosen.prompt, {role: one.answers for role, one in self.completions.items()}
        if self.rejected is not None:
            return {"prompt": prompt, **answers}
        # A learner of demonstrations would train earlier turns of the assistant, too.
        earlier = [{**message, "weight": 0} if message.get("role") == "assistant" else message for message in prompt]
        return {"messages": [*earlier, *answers["chosen"]]}


def _parsed(line: Mapping[str, Any]) -> Completion:
    """Check a line of a run's rollouts.

    Raises:
        DataError: The line is no completion of a prompt.
    """
    try:
        completion = Completion.model_validate(line)
        if completion.prompt or not completion.turns:  # an episode may have failed before anybody spoke
            to_messages(completion.prompt, column="messages")
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise data_error(f"a line of the run's rollouts is damaged: {where}: {expectation(first)}") from error
    except BadRow as error:
        raise data_error(f"a line of the run's rollouts is damaged: {error}") from error
    return completion


def write_rows(config: PairsConfig, tell: Callable[[str], None]) -> RowCounts:
    """Write the rows of a run into a file, which appears only when it is complete.

    Args:
        config: A checked configuration.
        tell: Receives a sentence about each damaged line of the run.

    Returns:
        The counts.

    Raises:
        UsageError: The run has no rollouts, or the file exists. Contains both problems.
        DataError: No group makes a row, or a line is no completion. Nothing is written.
        WriteError: The file cannot be written.
    """
    folder, target = Path(config.run or "").expanduser(), Path(config.out or "").expanduser()
    _refuse_places(folder, target)
    maker = RowMaker(config, is_raw=settings_of_run(folder).get("data.format") == "raw")
    rows = maker.rows(read_rollout_lines(folder, tell))
    first = next(rows, None)
    if first is None:
        problem = f"run={config.run}: none of its {plural(maker.counts.groups, 'group')} of completions makes a row"
        raise data_error("; ".join([problem, *maker.counts.lines()]))
    lines = ((json.dumps(row) + "\n").encode("ascii") for row in itertools.chain([first], rows))
    if config.dry_run:
        for _ in lines:
            pass
        return maker.counts
    try:
        replace_file(target, lines)
    finally:  # nothing is left of an interrupted extraction
        target.with_name(target.name + UNFINISHED).unlink(missing_ok=True)
    return maker.counts


def _refuse_places(folder: Path, target: Path) -> None:
    problems = []
    if not rollout_paths(folder):
        problems.append(f"run={folder}: the folder has no rollouts.jsonl; name the folder of a run, such as runs/a")
    if target.exists():
        problems.append(f"out={target} exists already; choose another file, or remove it")
    elif not target.absolute().parent.is_dir():
        problems.append(f"out={target}: the folder {target.absolute().parent} does not exist; create it")
    if problems:
        raise UsageError("rft pairs", problems)
