"""Parses the arguments of a command: overrides, Hydra's options, and the user's folders of presets."""

from __future__ import annotations

import difflib
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rft.config.presets import SEARCHPATH
from rft.errors import ConfigError
from rft.redaction import hide_in_words

OR_RESUME = "--or-resume"
OPTIONS: Mapping[str, tuple[str, str]] = {
    "--help": ("", "print this help"),
    "--config-dir": ("<folder>", "also search this folder for presets; may be repeated"),
    "--cfg": ("job|hydra|all", "print the resulting configuration and stop"),
    "--resolve": ("", "with --cfg: resolve ${...} references"),
    "--package": ("<section>", "with --cfg: print only this section"),
    "--multirun": ("", "run every combination of keys with several values, such as seed=0,1"),
    OR_RESUME: ("", "continue the run in output_dir if there is one, or else start it (or_resume=true)"),
}
"""Options of commands with a configuration, each with its argument and its meaning. Most belong to Hydra."""
SHORT = {"-h": "--help", "-cd": "--config-dir", "-c": "--cfg", "-p": "--package", "-m": "--multirun"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """The arguments of a command, sorted by kind.

    Example:
        Line(options=("--cfg", "job"), overrides=("experiment=mine",), folders=(Path("/home/me/mine"),))
    """

    options: tuple[str, ...] = ()
    """Hydra's options by their full names, each followed by its value."""
    overrides: tuple[str, ...] = ()
    """`key=value` and other overrides."""
    folders: tuple[Path, ...] = ()
    """Absolute folders of `--config-dir`."""

    @property
    def searched(self) -> list[str]:
        """The folders as a list of at most one Hydra override."""
        places = ",".join(quoted(f"file://{folder}") for folder in self.folders)
        return [f"{SEARCHPATH}=[{places}]"] if self.folders else []

    @property
    def words(self) -> list[str]:
        """All overrides, without the options."""
        return [*self.searched, *self.overrides]

    @property
    def is_multirun(self) -> bool:
        """Whether to run every combination of values."""
        return "--multirun" in self.options

    @property
    def is_grid(self) -> bool:
        """Whether `--multirun` is the only option of Hydra; with `--cfg`, nothing would run."""
        return self.options == ("--multirun",)


def asks_for_help(words: Sequence[str]) -> bool:
    """Whether `--help` is among the arguments."""
    return not {"-h", "--help"}.isdisjoint(words)


def allowed_options(command: str) -> list[str]:
    """Return the options of a command, such as `rft train`."""
    if command in ("rft sweep", "rft pipeline", "rft continue"):
        return ["--help", "--config-dir", OR_RESUME]
    return [name for name in OPTIONS if name != OR_RESUME or command == "rft train"]


def read_line(words: Sequence[str], command: str) -> Line:
    """Parse the arguments of a command.

    Args:
        words: The arguments.
        command: The name of the command, such as `rft train`.

    Raises:
        ConfigError: Options are unknown or lack their value, or folders do not exist.
    """
    options: list[str] = []
    overrides: list[str] = []
    folders: list[Path] = []
    problems: list[str] = []
    rest = iter(words)
    allowed = allowed_options(command)
    for word in rest:
        if not word.startswith("-"):
            overrides.append(word)
            continue
        name, value = _option(word, rest)
        if name not in allowed:
            problems.append(_unknown(word, command, allowed))
        elif OPTIONS[name][0] and not value:
            problems.append(f"{word}: the value is missing; write {word} {OPTIONS[name][0]}")
        elif name == "--config-dir":
            folders.append(folder := Path(value).expanduser().absolute())
            problems += _folder_problems(value, folder)
        elif name == OR_RESUME:
            overrides.append("or_resume=true")
        elif name == "--multirun" and name in options:
            continue
        else:
            options += [name, value] if value else [name]
    if problems:
        raise ConfigError("command line", problems)
    return Line(options=tuple(options), overrides=tuple(overrides), folders=tuple(folders))


def quoted(path: Path | str) -> str:
    """Quote a path for the command line."""
    return "'" + str(path).replace("\\", "\\\\").replace("'", "\\'") + "'"


def _option(word: str, rest: Iterator[str]) -> tuple[str, str]:
    """Return the full name of an option and its value, given as `--name=value` or as the next argument."""
    name, equals, value = word.partition("=")
    name = SHORT.get(name, name)
    if name in OPTIONS and OPTIONS[name][0] and not equals:
        value = next(rest, "")
    return name, value


def _unknown(word: str, command: str, allowed: Collection[str]) -> str:
    (key,) = hide_in_words([word.lstrip("-")], {})
    shown = word[: len(word) - len(word.lstrip("-"))] + key
    if key.partition("=")[0] == "resume":
        return f"{shown}: {command} has no such option; write resume=<run folder>"
    if "." in key or "=" in key:
        as_key = key if "=" in key else f"{key}=<value>"
        return f"{shown}: {command} has no such option; write keys without dashes, as in {as_key}"
    if word in ("-sc", "--shell-completion"):
        return f"{shown}: use `rft completion bash`, `rft completion zsh` or `rft completion fish`"
    near = difflib.get_close_matches(word, allowed, n=1)
    hint = f"did you mean {near[0]}? Its options" if near else "its options"
    return f"{shown}: {command} has no such option; {hint}: {', '.join(allowed)}"


def _folder_problems(given: str, folder: Path) -> list[str]:
    if os.path.isdir(folder):  # unlike Path.is_dir, it does not raise for names that are too long
        return []
    beside = (
        sorted(path.name for path in folder.parent.glob("*") if path.is_dir()) if os.path.isdir(folder.parent) else []
    )
    near = difflib.get_close_matches(folder.name, beside, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    what = "this is a file" if os.path.exists(folder) else "no such folder"
    return [f"--config-dir {given}: {what} ({folder}){hint}"]
