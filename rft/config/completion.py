"""Tab completion: scripts for bash, zsh and fish, which call `rft completion --candidates`."""

from __future__ import annotations

import dataclasses
import importlib
import itertools
import os
import re
from argparse import ArgumentParser
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from rft.config.catalog import RECEIVERS, SCHEMAS, command_of, config_name_of
from rft.config.command_line import allowed_options
from rft.config.presets import conf_dir, groups, preset_names
from rft.config.reference import GRADER, Key, reference
from rft.grading.loading.targets import BUILT_IN

SCRIPTS: Mapping[str, str] = {
    # Bash breaks words at `=` and `:`. Candidates must not repeat the part before the last break.
    "bash": """\
_rft() {
    local line=${COMP_LINE:0:COMP_POINT} words current before
    read -ra words <<< "$line"
    [[ $line == *[[:space:]] ]] && words+=("")
    current=${words[${#words[@]}-1]}
    mapfile -t COMPREPLY < <(rft completion --candidates "${words[@]:1}" 2>/dev/null)
    before=${current%"${current##*[$COMP_WORDBREAKS]}"}
    COMPREPLY=("${COMPREPLY[@]#"$before"}")
    [[ ${COMPREPLY[0]} == *[=./] ]] && compopt -o nospace
    return 0
}
complete -F _rft rft
""",
    "zsh": """\
#compdef rft
_rft() {
    local -a candidates open closed
    candidates=("${(@f)$(rft completion --candidates "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    open=(${(M)candidates:#*[=./]})
    closed=(${candidates:#*[=./]})
    (( $#open )) && compadd -Q -S '' -- $open
    (( $#closed )) && compadd -Q -- $closed
}
compdef _rft rft
""",
    "fish": """\
function __rft_candidates
    set -l before (commandline -opc)
    rft completion --candidates $before[2..] (commandline -ct) 2>/dev/null
end
complete -c rft -f -a '(__rft_candidates)'
""",
}
"""The script of each shell."""


def candidates(words: Sequence[str], commands: Mapping[str, Callable[[], ArgumentParser] | None]) -> list[str]:
    """Return completions of the last word. A candidate that ends in `=`, `.` or `/` is incomplete.

    Args:
        words: The words after `rft`; the last one is partial and may be empty.
        commands: The commands of rft; those with options instead of a configuration have a factory of their parser.
    """
    if len(words) < 2:
        return _begin([*commands, "--help", "--version"], words[0] if words else "")
    command, *before, current = words
    config_name = config_name_of(command)
    if command == "config":
        return _cut(_key_names(SCHEMAS), current)
    if command == "completion":
        return _begin(list(SCRIPTS), current)
    if before and before[-1] in ("--config-dir", "-cd"):
        return [path for path in _files(current) if path.endswith("/")]
    if config_name is None:
        parser = commands.get(command)
        return _begin(_options(parser()), current) if parser and current.startswith("-") else _files(current)
    if current.startswith("-"):
        return _begin(allowed_options(command_of(config_name)), current)
    return _overrides(config_name, before, current)


def _overrides(config_name: str, before: Sequence[str], current: str) -> list[str]:
    """Return keys and presets, or values of the typed key."""
    sign = current[: len(current) - len(current.lstrip("+~"))]
    typed = current[len(sign) :]
    names = [config_name, "train"] if config_name in RECEIVERS else [config_name]
    presets = {group: preset_names(group, _folders(before)) for name in names for group in groups(name)}
    keys = {key.name: key for name in names for part in reference(name) for key in part.keys}
    keys |= {key.name: key for key in _grader_keys(keys, before, typed)}
    name, equals, value = typed.partition("=")
    if not equals:
        listed = [f"{key}=" for key in [*keys, *presets] if "<" not in key]
        listed += ["data="] if config_name in ("grade", "audit") else []
        graders = ["graders."] if any(key.startswith(GRADER) for key in keys) else []
        return [f"{sign}{candidate}" for candidate in _cut([*listed, *graders], typed)]
    key = keys.get(name)
    if name in presets:
        values = _begin(presets[name], value)
    elif name.endswith(".use"):
        values = [*_begin([*BUILT_IN], value), *_files(value)]
    else:
        takes_files = key is None or "str" in key.type
        values = [*_begin(key.values if key else (), value), *(_files(value) if takes_files else ())]
    return [f"{sign}{name}={candidate}" for candidate in values]


def _grader_keys(keys: Mapping[str, Key], before: Sequence[str], typed: str) -> Iterator[Key]:
    """Yield the keys of the graders in the arguments; for built-in graders also their options."""
    named = {word.split(".")[1]: "" for word in [*before, typed] if word.startswith("graders.") and word.count(".") > 1}
    for word in before:
        key, _, value = word.partition("=")
        if key.startswith("graders.") and key.endswith(".use"):
            named[key.split(".")[1]] = value
    for name, use in named.items():
        for entry in keys.values():
            if entry.name.startswith(GRADER):
                yield dataclasses.replace(entry, name=entry.name.replace("<name>", name))
        if use in BUILT_IN:
            module, _, attribute = BUILT_IN[use].partition(":")
            for field in dataclasses.fields(getattr(importlib.import_module(module), attribute)):
                yield Key(name=f"graders.{name}.{field.name}", type="", default=None, meaning="")


def _key_names(config_names: Sequence[str] | Mapping[str, object]) -> list[str]:
    return list(dict.fromkeys(key.name for name in config_names for part in reference(name) for key in part.keys))


def _folders(before: Sequence[str]) -> list[Path]:
    """Return the folders with presets: `conf/` and those of `--config-dir`."""
    given = [word.partition("=")[2] for word in before if word.startswith("--config-dir=")]
    given += [after for word, after in itertools.pairwise(before) if word in ("--config-dir", "-cd")]
    return [conf_dir(), *(Path(folder).expanduser() for folder in given)]


def _options(parser: ArgumentParser) -> list[str]:
    return re.findall(r"^  (?:-\w, )?(--[\w-]+)", parser.format_help(), re.MULTILINE)


def _begin(choices: Sequence[str], typed: str) -> list[str]:
    return [choice for choice in choices if choice.startswith(typed)]


def _cut(names: Sequence[str], typed: str) -> list[str]:
    """Return the names that start with the typed text, each cut at the next dot."""
    shortened = []
    for name in _begin(names, typed):
        head, dot, _ = name[len(typed) :].partition(".")
        shortened.append(f"{typed}{head}{dot}")
    return list(dict.fromkeys(shortened))


def _files(typed: str) -> list[str]:
    """Return the files and folders that start with the typed text."""
    folder, name = os.path.split(typed)
    try:
        entries = sorted(os.scandir(Path(folder or ".").expanduser()), key=lambda entry: entry.name)
    except OSError:
        return []
    return [
        os.path.join(folder, entry.name) + ("/" if entry.is_dir() else "")
        for entry in entries
        if entry.name.startswith(name) and (name.startswith(".") or not entry.name.startswith("."))
    ]
