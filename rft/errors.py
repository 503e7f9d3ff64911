"""The errors that rft raises on purpose, each written for the person who must fix it, and its warning category.

    RftError                 exit code 1
    |-- UsageError           exit code 2: the input is wrong, and nothing was started
    |   |-- ConfigError      the configuration; contains all problems, not only the first
    |   |-- DataError        task files; contains all problems with file and line
    |   |-- ModelError       the base model, its tokenizer or an adapter
    |   |-- OutputError      the folder that the run writes to
    |   `-- InstallError     a library that only an extra of rft installs
    |-- SampleError          a sampler failed
    |   |-- SamplersLost     too few samplers remain, and no replacement could be started
    |   `-- ServerLost       the server of a remote sampler cannot be reached, or was restarted
    |-- GradeError           a grader failed too often
    |-- Infeasible           a run is not worth starting (feasibility=refuse)
    |-- EpisodeError         an environment cannot run
    |-- RetrievalError       the store of passages failed too often
    |-- LearnError           the learner failed
    |   `-- LearnerLost      a process of the learner died or does not answer; it can start again
    |       `-- RankLost     a rank misses another rank, which may report its own error
    |-- SyncError            a new policy did not reach a sampler
    |-- ClusterError         the cluster cannot be reached, or one of its nodes failed
    |   `-- RayLost          exit code 69: a process of Ray died or hangs, so nothing can go on
    |-- StorageError         the storage for copies of the run cannot be written or read
    |-- WriteError           exit code 74: a file of the run cannot be written, such as on a full disk
    `-- WaitTimeout          a wait exceeded its deadline

Standard library only.
"""

from __future__ import annotations

from collections.abc import Sequence


class RftError(Exception):
    """Base of all errors that rft raises on purpose."""

    exit_code = 1


class UsageError(RftError):
    """The user's input is wrong. The error contains all problems.

    Args:
        title: The subject of the check, such as "configuration".
        problems: One sentence for each problem: the given value, the allowed values, the remedy.
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
    """The folder that a run would write to cannot be used."""


class InstallError(UsageError):
    """A library is missing that only an extra of rft installs."""


class SampleError(RftError):
    """A sampler failed."""


class SamplersLost(SampleError):
    """Too few samplers remain, and no replacement could be started."""


class ServerLost(SampleError):
    """The server of a remote sampler cannot be reached, or was restarted and lost its adapters."""


class GradeError(RftError):
    """A grader failed more often than the configuration allows."""


class Infeasible(RftError):
    """The rewards of samples say that a run is not worth starting, and its configuration refuses such runs."""


class EpisodeError(RftError):
    """An environment cannot run: its processes end before they play an episode."""


class RetrievalError(RftError):
    """The store of passages failed more often than the configuration allows."""


class LearnError(RftError):
    """The learner failed."""


class LearnerLost(LearnError):
    """A process of the learner died or does not answer. Its error would not come back after a new start."""


class RankLost(LearnerLost):
    """A rank of the learner died, hangs, or cannot be reached by another rank."""


class SyncError(RftError):
    """A new policy did not reach a sampler."""


class ClusterError(RftError):
    """The cluster cannot be reached, or one of its nodes failed."""


class RayLost(ClusterError):
    """A process of Ray died or hangs, and with it the processes that it manages."""

    exit_code = 69  # EX_UNAVAILABLE of sysexits.h


class StorageError(RftError):
    """The storage for copies of the run cannot be written or read."""


class SignError(RftError):
    """A service of sigstore cannot be reached or refused, so nothing was signed or checked."""


class WriteError(RftError):
    """A file of the run cannot be written, such as on a full disk. What was written before is whole."""

    exit_code = 74  # EX_IOERR of sysexits.h


class WaitTimeout(RftError):
    """A wait exceeded its deadline.

    Args:
        what: The name of the wait, such as "8 completions".
        deadline_s: Length of the wait, in seconds.
    """

    def __init__(self, what: str, deadline_s: float) -> None:
        self.what = what
        self.deadline_s = deadline_s
        super().__init__(f"timed out after {deadline_s:g} s waiting for {what}")

    def __reduce__(self) -> tuple[type[WaitTimeout], tuple[str, float]]:
        return type(self), (self.what, self.deadline_s)


class EarlierName(FutureWarning):
    """A key of the configuration has another name now. The command line shows the message without a place in code."""
