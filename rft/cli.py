"""The command line: `rft <command> ...`; `COMMANDS` has them all.

A configuration is composed and checked before anything heavy is imported; what is wrong is printed as bullets, and the
exit code is 2.
"""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn, TypeVar

from rft import __version__
from rft.errors import RftError

if TYPE_CHECKING:
    from argparse import ArgumentParser

    from rich.console import Console

    from rft.config import AuditConfig, EvaluateConfig, GradeConfig, MergeConfig, RunConfig, ServeConfig

Config = TypeVar("Config")


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One command of `rft`.

    Example:
        Command(name="doctor", summary="find what keeps this machine from running rft", run=doctor)
    """

    name: str
    """The word after `rft`."""
    summary: str
    """What it does, in one line of `rft --help`."""
    run: Callable[[list[str]], int]
    """Takes the words after the name, and returns the exit code."""
    parser: Callable[[], ArgumentParser] | None = None
    """For tab completion, makes the parser of a command that has options instead of a configuration."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a command and exit with its code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help"):
        print(usage(), end="")
        sys.exit(0 if words else 2)
    if words[0] == "--version":
        print(f"rft {__version__}")
        sys.exit(0)
    commands = {command.name: command for command in COMMANDS}
    if words[0] not in commands:
        near = difflib.get_close_matches(words[0], commands, n=1)
        hint = f"did you mean {near[0]}? There are" if near else "there are"
        print(f"rft: unknown command {words[0]!r}; {hint}: {', '.join(commands)}\n\n{usage()}", end="", file=sys.stderr)
        sys.exit(2)
    sys.exit(_run(commands[words[0]], words[1:]))


def _run(command: Command, words: list[str]) -> int:
    """Run a command; that it is interrupted, or its reader gone, is no error of rft's."""
    if broken := [word for word in words if _is_no_utf8(word)]:
        print(f"rft: not valid UTF-8 on the command line: {broken[0]!r}", file=sys.stderr)
        return 2
    try:
        code = guarded(command.run, words)
        sys.stdout.flush()
    except KeyboardInterrupt:
        print("rft: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        if not _has_no_reader():
            raise
        return 141  # as a shell has it of a program that SIGPIPE ended
    return code


def _is_no_utf8(word: str) -> bool:
    """Whether Python could not decode a word; what it makes of it cannot be printed."""
    return any("\udc80" <= character <= "\udcff" for character in word)


def _has_no_reader() -> bool:
    """Whether nobody reads standard output any more, as after `| head`; what is still to be written is dropped then."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return True
    return False


def usage() -> str:
    """What `rft --help` prints."""
    lines = "\n".join(f"  rft {command.name:<14} {command.summary}" for command in COMMANDS)
    return f"""\
usage: rft <command> ...

{lines}

  rft train experiment=quickstart          a minute on a laptop, no download
  rft <command> --help                     what a command takes
  rft --version
"""


def guarded(command: Callable[[list[str]], int], words: list[str]) -> int:
    """Run a command; an error that rft raises on purpose becomes a message and an exit code."""
    try:
        return command(words)
    except RftError as error:
        print("\n".join([f"rft: {error}", *getattr(error, "__notes__", ())]), file=sys.stderr)
        return error.exit_code


def train(words: list[str]) -> int:
    """`rft train`: see `rft train --help`."""
    from rft.config.commands import load_training
    from rft.config.line import asks_for_help, read_line

    if not asks_for_help(words) and read_line(words, "rft train").is_grid:
        from rft.sweep.grid import run_grid

        return run_grid(words, console=_console())

    def run(config: RunConfig) -> int:
        if config.dry_run:
            from rft.commands.check import check_training

            return check_training(config, console=_console())
        from rft.commands.train import run_training

        return run_training(config, command=["rft", "train", *words], console=_console())

    return _configured("train", words, load_training, run)


def check(words: list[str]) -> int:
    """`rft check`: `rft train` with the same words, and `dry_run=true`."""
    return train([*words, "dry_run=true"])


def sweep(words: list[str]) -> int:
    """`rft sweep`: see `rft sweep --help`."""
    from rft.config.line import asks_for_help, read_line

    if asks_for_help(words):
        return _help("sweep", words)
    line = read_line(words, "rft sweep", allowed=("--help", "--config-dir"))
    from rft.sweep.search import run_search

    return run_search(line.words, console=_console())


def evaluate(words: list[str]) -> int:
    """`rft evaluate`: see `rft evaluate --help`."""
    from rft.config.commands import load_evaluation
    from rft.config.of_run import settings_in_words

    def run(config: EvaluateConfig) -> int:
        if said := settings_in_words(config):
            print(said)
        if config.dry_run:
            from rft.commands.check import check_evaluation

            return check_evaluation(config, console=_console())
        from rft.commands.evaluate import run_evaluation

        return run_evaluation(config, console=_console())

    return _configured("evaluate", words, load_evaluation, run)


def sample(words: list[str]) -> int:
    """`rft sample`: see `rft sample --help`."""
    from rft.commands.sample import run_sample

    return run_sample(words, console=_console())


def merge(words: list[str]) -> int:
    """`rft merge`: see `rft merge --help`."""
    from rft.config.commands import load_merge

    def run(config: MergeConfig) -> int:
        from rft.commands.merge import run_merge

        return run_merge(config, console=_console())

    return _configured("merge", words, lambda overrides, _: load_merge(overrides), run)


def grade(words: list[str]) -> int:
    """`rft grade`: see `rft grade --help`."""
    from rft.config.commands import load_grading, written_out

    def run(config: GradeConfig) -> int:
        if config.dry_run:
            from rft.commands.grade import check_grading

            return check_grading(config, console=_console())
        from rft.commands.grade import run_grading

        return run_grading(config, console=_console())

    return _configured("grade", written_out(words), load_grading, run)


def audit(words: list[str]) -> int:
    """`rft audit`: see `rft audit --help`."""
    from rft.config.commands import load_audit, written_out

    def run(config: AuditConfig) -> int:
        if config.dry_run:
            from rft.commands.audit import check_audit

            return check_audit(config, console=_console())
        from rft.commands.audit import run_audit

        return run_audit(config, console=_console())

    return _configured("audit", written_out(words, "tasks"), load_audit, run)


def serve_grader(words: list[str]) -> int:
    """`rft serve-grader`: see `rft serve-grader --help`."""
    from rft.config.commands import load_service

    def run(config: ServeConfig) -> int:
        from rft.commands.serve_grader import run_service

        return run_service(config, console=_console())

    return _configured("serve_grader", words, lambda overrides, _: load_service(overrides), run)


def doctor(words: list[str]) -> int:
    """`rft doctor`: see `rft doctor --help`."""
    from rft.doctor import run_doctor

    return run_doctor(words, console=_console())


def config(words: list[str]) -> int:
    """`rft config`: the meaning of one key, of a section, or the names of all sections."""
    from rft.config.help import config_text, sections_text
    from rft.errors import ConfigError

    if len(words) > 1 or any(word.startswith("-") for word in words):
        raise ConfigError("command line", ["write rft config <key>, as rft config loop.steps, or rft config alone"])
    print(config_text(words[0]) if words else sections_text(), end="")
    return 0


def completion(words: list[str]) -> int:
    """`rft completion bash|zsh|fish`: a script for the shell, which asks with `--candidates` and the words typed."""
    from rft.config.completion import SCRIPTS, candidates
    from rft.errors import ConfigError

    if words[:1] == ["--candidates"]:
        parsers = {command.name: command.parser for command in COMMANDS}
        print("\n".join(candidates(words[1:], parsers)))
        return 0
    if len(words) != 1 or words[0] not in SCRIPTS:
        raise ConfigError("command line", [COMPLETION])
    print(SCRIPTS[words[0]], end="")
    return 0


def _sample_parser() -> ArgumentParser:
    from rft.commands.sample import parser

    return parser()


def _doctor_parser() -> ArgumentParser:
    from rft.doctor.report import parser

    return parser()


COMPLETION = """\
write rft completion bash, zsh or fish, and let the shell evaluate the output:
      bash   echo 'eval "$(rft completion bash)"' >> ~/.bashrc
      zsh    echo 'autoload -Uz compinit && compinit && eval "$(rft completion zsh)"' >> ~/.zshrc
      fish   echo 'rft completion fish | source' >> ~/.config/fish/config.fish"""
"""How to use `rft completion`."""
COMMANDS = (
    Command(name="train", summary="train an adapter on tasks that a grader scores", run=train),
    Command(name="check", summary="look at all that a training run needs, without starting it", run=check),
    Command(name="sweep", summary="search for good settings by many runs", run=sweep),
    Command(name="evaluate", summary="measure a base model or an adapter on a task file", run=evaluate),
    Command(
        name="sample",
        summary="try a base model or an adapter on a prompt",
        run=sample,
        parser=_sample_parser,
    ),
    Command(name="merge", summary="make a plain model folder of an adapter and its base model", run=merge),
    Command(name="grade", summary="grade recorded completions, such as those of a run, with other graders", run=grade),
    Command(
        name="audit",
        summary="probe graders before they train anything: what would a model find out about them?",
        run=audit,
    ),
    Command(name="serve-grader", summary="answer with rewards over HTTP", run=serve_grader),
    Command(name="config", summary="say what a key of the configuration means, and what it may be", run=config),
    Command(name="completion", summary="print the script for tab completion in bash, zsh or fish", run=completion),
    Command(
        name="doctor",
        summary="find what keeps this machine from running rft",
        run=doctor,
        parser=_doctor_parser,
    ),
)
"""Every command, in the order of `rft --help`."""


def _configured(
    config_name: str,
    words: list[str],
    load: Callable[[list[str], str | None], Config],
    run: Callable[[Config], int],
) -> int:
    """Run a command with the configuration that its words describe; Hydra handles its own options.

    Args:
        config_name: The primary file in `conf/`, without `.yaml`.
        words: The command line after the command.
        load: Composes and checks, given overrides and the run folder where Hydra chose one.
        run: Runs the command, and returns its exit code.
    """
    from rft.config.catalog import command_of
    from rft.config.commands import with_hydra
    from rft.config.line import asks_for_help, read_line

    if asks_for_help(words):
        return _help(config_name, words)
    line = read_line(words, command_of(config_name))
    if not line.options:
        return run(load(line.words, None))
    return with_hydra(
        config_name,
        words,
        lambda overrides, folder: guarded(lambda job: run(load(job, folder)), overrides),
    )


def _help(config_name: str, words: list[str]) -> int:
    from rft.config.help import help_text

    print(help_text(config_name, words), end="")
    return 0


def _console() -> Console:
    from rich.console import Console

    return Console()


if __name__ == "__main__":
    main()
