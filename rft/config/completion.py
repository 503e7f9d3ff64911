"""Tab completion: scripts for bash, zsh and fish, which all ask `rft completion --candidates` what may come next."""

from __future__ import annotations

import dataclasses
import importlib
import itertools
import os
import re
from argparse import ArgumentParser
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from rft.config.catalog import SCHEMAS, config_name_of
from rft.config.line import OPTIONS
from rft.config.presets import conf_dir, groups, preset_names
from rft.config.reference import GRADER, Key, reference
from rft.grading.loading.targets import BUILT_IN

SCRIPTS: Mapping[str, str] = {
    # Bash breaks words at `=` and `:`, which are inside rft's; what is before the last of them is not to be repeated.
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
"""What each shell evaluates."""


def candidates(words: Sequence[str], commands: Mapping[str, Callable[[], ArgumentParser] | None]) -> list[str]:
    """What the last word may become. One that ends in `=`, `.` or `/` is not complete yet.

    Args:
        words: Those after `rft`; the last is what is typed of it so far, and may be empty.
        commands: The commands of rft; for those that have options instead of a configuration, what makes their parser.
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
        return _begin(list(OPTIONS), current)
    return _overrides(config_name, before, current)


def _overrides(config_name: str, before: Sequence[str], current: str) -> list[str]:
    """Keys and presets, or the values of the one that is typed."""
    sign = current[: len(current) - len(current.lstrip("+~"))]
    typed = current[len(sign) :]
    names = [config_name, "train"] if config_name == "sweep" else [config_name]
    presets = {group: preset_names(group, _folders(before)) for name in names for group in groups(name)}
    keys = {key.name: key for name in names for part in reference(name) for key in part.keys}
    keys |= {key.name: key for key in _grader_keys(keys, before, typed)}
    name, equals, value = typed.partition("=")
    if not equals:
        listed = [f"{key}=" for key in [*keys, *presets] if "<" not in key]
        listed += ["data="] if config_name in ("grade", "audit") else []
        graders = ["graders."] if any(key.startswith(GRADER) for key in keys) else []
        return [f"{sign}{found}" for found in _cut([*listed, *graders], typed)]
    key = keys.get(name)
    if name in presets:
        found = _begin(presets[name], value)
    elif name.endswith(".use"):
        found = [*_begin([*BUILT_IN], value), *_files(value)]
    else:
        takes_files = key is None or "str" in key.type
        found = [*_begin(key.values if key else (), value), *(_files(value) if takes_files else ())]
    return [f"{sign}{name}={one}" for one in found]


def _grader_keys(keys: Mapping[str, Key], before: Sequence[str], typed: str) -> Iterator[Key]:
    """The keys of the graders that the words name, of built-in ones with their options."""
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
    """Where presets are: `conf/`, and what `--config-dir` says."""
    given = [word.partition("=")[2] for word in before if word.startswith("--config-dir=")]
    given += [after for word, after in itertools.pairwise(before) if word in ("--config-dir", "-cd")]
    return [conf_dir(), *(Path(folder).expanduser() for folder in given)]


def _options(parser: ArgumentParser) -> list[str]:
    return re.findall(r"^  (?:-\w, )?(--[\w-]+)", parser.format_help(), re.MULTILINE)


def _begin(choices: Sequence[str], typed: str) -> list[str]:
    return [choice for choice in choices if choice.startswith(typed)]


def _cut(names: Sequence[str], typed: str) -> list[str]:
    """The names that begin with what is typed, each up to the next dot."""
    found = []
    for name in _begin(names, typed):
        head, dot, _ = name[len(typed) :].partition(".")
        found.append(f"{typed}{head}{dot}")
    return list(dict.fromkeys(found))


def _files(typed: str) -> list[str]:
    """The files and folders that begin with what is typed."""
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
