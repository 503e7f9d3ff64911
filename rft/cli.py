"""The command line: `rft train`, `evaluate`, `sample`, `grade`, `audit`, `serve-grader`.

A configuration is composed and checked before anything heavy is imported; what is wrong is printed as bullets, and the
exit code is 2.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NoReturn

from rft import __version__
from rft.errors import RftError

if TYPE_CHECKING:
    from rich.console import Console

    from rft.config import AuditConfig, EvaluateConfig, GradeConfig, RunConfig

USAGE = """\
usage: rft <command> ...

  rft train          from a base model, a task file and a grader to a better adapter
  rft sweep          search for good settings by many runs
  rft evaluate       measure a base model or an adapter on a task file
  rft sample         try a base model or an adapter on a prompt
  rft grade          grade recorded completions, such as those of a run, with other graders
  rft audit          probe graders before they train anything: what would a model find out about them?
  rft serve-grader   answer with rewards over HTTP
  rft doctor         find what keeps this machine from running rft

  rft train experiment=quickstart          a minute on a laptop, no download
  rft <command> --help                     what a command takes
  rft --version
"""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a command and exit with its code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    commands: dict[str, Callable[[list[str]], int]] = {
        "train": train,
        "sweep": sweep,
        "evaluate": evaluate,
        "sample": sample,
        "grade": grade,
        "audit": audit,
        "serve-grader": serve_grader,
        "doctor": doctor,
    }
    if not words or words[0] in ("-h", "--help"):
        print(USAGE, end="")
        sys.exit(0 if words else 2)
    if words[0] == "--version":
        print(f"rft {__version__}")
        sys.exit(0)
    if words[0] not in commands:
        print(
            f"rft: unknown command {words[0]!r}; there are: {', '.join(commands)}\n\n{USAGE}", end="", file=sys.stderr
        )
        sys.exit(2)
    sys.exit(guarded(commands[words[0]], words[1:]))


def guarded(command: Callable[[list[str]], int], words: list[str]) -> int:
    """Run a command; an error that rft raises on purpose becomes a message and an exit code."""
    try:
        return command(words)
    except RftError as error:
        print(f"rft: {error}", file=sys.stderr)
        return error.exit_code


def train(words: list[str]) -> int:
    """`rft train`: see `rft train --help`."""
    from rft.config.commands import is_grid, load_training, with_hydra

    command = ["rft", "train", *words]
    if is_grid(words):
        from rft.sweep.grid import run_grid

        return run_grid(words, console=_console())
    if any(word.startswith("-") for word in words):
        return with_hydra(
            "train",
            words,
            lambda overrides, folder: guarded(lambda job: _train(load_training(job, folder), command), overrides),
        )
    return _train(load_training(words), command)


def sweep(words: list[str]) -> int:
    """`rft sweep`: see `rft sweep --help`."""
    from rft.config.search import HELP

    if {"-h", "--help"} & set(words):
        print(HELP, end="")
        return 0
    from rft.sweep.search import run_search

    return run_search(words, console=_console())


def _train(run: RunConfig, command: list[str]) -> int:
    if run.dry_run:
        from rft.plan import training_plan

        print(training_plan(run))
        return 0
    from rft.app import run_training

    return run_training(run, command=command, console=_console())


def evaluate(words: list[str]) -> int:
    """`rft evaluate`: see `rft evaluate --help`."""
    from rft.config.commands import load_evaluation, with_hydra

    if any(word.startswith("-") for word in words):
        return with_hydra(
            "evaluate",
            words,
            lambda overrides, folder: guarded(lambda job: _evaluate(load_evaluation(job, folder)), overrides),
        )
    return _evaluate(load_evaluation(words))


def _evaluate(config: EvaluateConfig) -> int:
    if config.dry_run:
        print("the configuration is right")
        return 0
    from rft.measure import run_evaluation

    return run_evaluation(config, console=_console())


def sample(words: list[str]) -> int:
    """`rft sample`: see `rft sample --help`."""
    from rft.try_out import run_sample

    return run_sample(words, console=_console())


def grade(words: list[str]) -> int:
    """`rft grade`: see `rft grade --help`."""
    from rft.config.commands import load_grading, with_hydra, written_out

    if any(word.startswith("-") for word in words):
        return with_hydra(
            "grade",
            written_out(words),
            lambda overrides, folder: guarded(lambda job: _grade(load_grading(job, folder)), overrides),
        )
    return _grade(load_grading(words))


def _grade(config: GradeConfig) -> int:
    if config.dry_run:
        print("the configuration is right")
        return 0
    from rft.offline import run_grading

    return run_grading(config, console=_console())


def audit(words: list[str]) -> int:
    """`rft audit`: see `rft audit --help`."""
    from rft.config.commands import load_audit, with_hydra, written_out

    if any(word.startswith("-") for word in words):
        return with_hydra(
            "audit",
            written_out(words, "tasks"),
            lambda overrides, folder: guarded(lambda job: _audit(load_audit(job, folder)), overrides),
        )
    return _audit(load_audit(words))


def _audit(config: AuditConfig) -> int:
    if config.dry_run:
        print("the configuration is right")
        return 0
    from rft.auditing import run_audit

    return run_audit(config, console=_console())


def serve_grader(words: list[str]) -> int:
    """`rft serve-grader`: see `rft serve-grader --help`."""
    from rft.config.commands import load_service, with_hydra

    if any(word.startswith("-") for word in words):
        return with_hydra("serve_grader", words, lambda overrides, _: guarded(serve_grader, overrides))
    config = load_service(words)
    from rft.serving import run_service

    return run_service(config, console=_console())


def doctor(words: list[str]) -> int:
    """`rft doctor`: see `rft doctor --help`."""
    from rft.doctor import run_doctor

    return run_doctor(words, console=_console())


def _console() -> Console:
    from rich.console import Console

    return Console()


if __name__ == "__main__":
    main()
