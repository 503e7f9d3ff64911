"""The errors that rft raises on purpose, each written for the person who must fix it.

    RftError                 exit code 1
    |-- UsageError           exit code 2: what was given is wrong, nothing was started
    |   |-- ConfigError      the configuration; carries every problem found, not only the first
    |   |-- DataError        task files; carries every finding with file and line
    |   |-- ModelError       the base model, its tokenizer or an adapter
    |   `-- OutputError      the folder that the run writes to
    |-- SampleError          a sampler failed
    |-- GradeError           a grader failed too often
    |-- LearnError           the learner failed
    |   `-- RankLost         a rank of it hears nothing from another, which tells by itself what ails it
    |-- SyncError            a new policy did not reach a sampler
    |-- ClusterError         the cluster cannot be reached, or one of its nodes failed
    |-- StorageError         where the run is copied to cannot be written or read
    `-- WaitTimeout          something that was waited for did not come in time

Standard library only.
"""

from __future__ import annotations

from collections.abc import Sequence


class RftError(Exception):
    """Base of all errors that rft raises on purpose."""

    exit_code = 1


class UsageError(RftError):
    """What the user gave is wrong. Holds every problem found.

    Args:
        title: What was being checked, as "configuration".
        problems: One sentence each: what was given, what is allowed, what to do.
    """

    exit_code = 2

    def __init__(self, title: str, problems: Sequence[str]) -> None:
        self.title = title
        self.problems = tuple(problems)
        super().__init__(title, self.problems)

    def __str__(self) -> str:
        return "\n".join([f"{self.title}:", *(f"  - {problem}" for problem in self.problems)])


class ConfigError(UsageError):
    """The configuration is wrong."""


class DataError(UsageError):
    """A task file is wrong."""


class ModelError(UsageError):
    """The base model, its tokenizer or an adapter cannot be used."""


class OutputError(UsageError):
    """The folder that a run writes to cannot be used, or its disk is full."""


class SampleError(RftError):
    """A sampler failed."""


class GradeError(RftError):
    """A grader failed more often than the configuration allows."""


class LearnError(RftError):
    """The learner failed."""


class RankLost(LearnError):
    """A rank of the learner hears nothing from another."""


class SyncError(RftError):
    """A new policy did not reach a sampler."""


class ClusterError(RftError):
    """The cluster cannot be reached, or one of its nodes failed."""


class StorageError(RftError):
    """The place that a run is copied to cannot be written or read."""


class WaitTimeout(RftError):
    """Something that was waited for did not come before its deadline.

    Args:
        what: What was waited for, in words.
        deadline_s: How long was waited, seconds.
    """

    def __init__(self, what: str, deadline_s: float) -> None:
        self.what = what
        self.deadline_s = deadline_s
        super().__init__(f"waited {deadline_s:g} s for {what}, in vain")

    def __reduce__(self) -> tuple[type[WaitTimeout], tuple[str, float]]:
        return type(self), (self.what, self.deadline_s)
