"""The words after a command: overrides, Hydra's options, and the user's own folders of presets."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rft.config.presets import SEARCHPATH
from rft.errors import ConfigError
from rft.redaction import hide_in_words

OPTIONS: Mapping[str, tuple[str, str]] = {
    "--help": ("", "print this"),
    "--config-dir": ("<folder>", "search this folder for presets, too; may be given several times"),
    "--cfg": ("job|hydra|all", "print the configuration that results, and stop"),
    "--resolve": ("", "with --cfg: print what ${...} refers to"),
    "--package": ("<section>", "with --cfg: print this section alone"),
    "--multirun": ("", "run every combination of the keys that have several values, as seed=0,1"),
}
"""The options of commands that have a configuration: what follows each, and what it does. Most are Hydra's."""
SHORT = {"-h": "--help", "-cd": "--config-dir", "-c": "--cfg", "-p": "--package", "-m": "--multirun"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """The words after a command, sorted.

    Example:
        Line(options=("--cfg", "job"), overrides=("experiment=mine",), folders=(Path("/home/me/mine"),))
    """

    options: tuple[str, ...] = ()
    """Hydra's options, in full, each followed by its value."""
    overrides: tuple[str, ...] = ()
    """`key=value` and the like."""
    folders: tuple[Path, ...] = ()
    """What `--config-dir` says, absolute."""

    @property
    def searched(self) -> list[str]:
        """The folders as an override of Hydra's; none, or one."""
        places = ",".join(quoted(f"file://{folder}") for folder in self.folders)
        return [f"{SEARCHPATH}=[{places}]"] if self.folders else []

    @property
    def words(self) -> list[str]:
        """Everything but the options."""
        return [*self.searched, *self.overrides]

    @property
    def is_multirun(self) -> bool:
        """Whether a run of each combination is asked for."""
        return "--multirun" in self.options

    @property
    def is_grid(self) -> bool:
        """Whether that is all that is asked of Hydra: with `--cfg`, nothing would run."""
        return self.options == ("--multirun",)


def asks_for_help(words: Sequence[str]) -> bool:
    """Whether `--help` is among the words."""
    return not {"-h", "--help"}.isdisjoint(words)


def read_line(words: Sequence[str], command: str, allowed: Collection[str] = tuple(OPTIONS)) -> Line:
    """Sort the words after a command.

    Args:
        words: As typed.
        command: As typed, such as `rft train`.
        allowed: The options that the command has.

    Raises:
        ConfigError: With every option that does not exist or lacks its value, and every folder that does not exist.
    """
    options: list[str] = []
    overrides: list[str] = []
    folders: list[Path] = []
    found: list[str] = []
    rest = iter(words)
    for word in rest:
        if not word.startswith("-"):
            overrides.append(word)
            continue
        name, value = _option(word, rest)
        if name not in allowed:
            found.append(_unknown(word, command, allowed))
        elif OPTIONS[name][0] and not value:
            found.append(f"{word}: the value is missing; write {word} {OPTIONS[name][0]}")
        elif name == "--config-dir":
            folders.append(folder := Path(value).expanduser().absolute())
            found += _folder_problems(value, folder)
        elif name == "--multirun" and name in options:
            continue
        else:
            options += [name, value] if value else [name]
    if found:
        raise ConfigError("command line", found)
    return Line(options=tuple(options), overrides=tuple(overrides), folders=tuple(folders))


def quoted(path: Path | str) -> str:
    """A path as a value on the command line."""
    return "'" + str(path).replace("\\", "\\\\").replace("'", "\\'") + "'"


def _option(word: str, rest: Iterator[str]) -> tuple[str, str]:
    """The full name of an option and its value, written as `--name=value` or as the next word."""
    name, equals, value = word.partition("=")
    name = SHORT.get(name, name)
    if name in OPTIONS and OPTIONS[name][0] and not equals:
        value = next(rest, "")
    return name, value


def _unknown(word: str, command: str, allowed: Collection[str]) -> str:
    (key,) = hide_in_words([word.lstrip("-")], {})
    shown = word[: len(word) - len(word.lstrip("-"))] + key
    if "." in key or "=" in key:
        as_key = key if "=" in key else f"{key}=<value>"
        return f"{shown}: {command} has no such option; keys are written without dashes, as {as_key}"
    if word in ("-sc", "--shell-completion"):
        return f"{shown}: use `rft completion bash`, `rft completion zsh` or `rft completion fish`"
    near = difflib.get_close_matches(word, allowed, n=1)
    hint = f"did you mean {near[0]}? There are" if near else "there are"
    return f"{shown}: {command} has no such option; {hint}: {', '.join(allowed)}"


def _folder_problems(given: str, folder: Path) -> list[str]:
    if folder.is_dir():
        return []
    beside = sorted(path.name for path in folder.parent.glob("*") if path.is_dir()) if folder.parent.is_dir() else []
    near = difflib.get_close_matches(folder.name, beside, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    what = "that is a file" if folder.exists() else "there is no such folder"
    return [f"--config-dir {given}: {what} ({folder}){hint}"]
