"""Commands with keys of their own: those with actions, such as `rft index build`, and those about one folder.

Each action has a schema, and a function that runs it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from pydantic import BaseModel
from yaml import YAMLError

from rft.config.compose import check
from rft.errors import ConfigError
from rft.wording import listed

Actions = Mapping[str, tuple[type[BaseModel], Callable[[Any], int]]]
"""The schema of each action, and the function that runs it and returns the exit code."""


def run_action(command: str, words: list[str], actions: Actions, usage: str) -> int:
    """Run an action, or print the help; return the exit code.

    Args:
        command: Name of the command.
        words: The action and its keys as `key=value`.
        actions: The actions by name.
        usage: The help, with `{keys}` in the place of all keys.

    Raises:
        ConfigError: The command line is wrong; contains all problems.
    """
    if not words or {"-h", "--help"} & {*words}:
        print(usage.format(keys=_keys(command, actions)), end="")
        return 0 if words else 2
    action, *given = words
    if action not in actions:
        allowed = listed([f"rft {command} {name}" for name in actions])
        raise ConfigError("command line", [f"rft {command} {action}: no such action; there are {allowed}"])
    if unclear := [word for word in given if "=" not in word or word.startswith("-")]:
        raise ConfigError("command line", [f"{word}: write key=value; see rft {command} --help" for word in unclear])
    schema, run = actions[action]
    return run(check(schema, OmegaConf.to_container(OmegaConf.merge({}, *map(_value, given))), lambda config: []))


def run_on_folder(
    command: str,
    words: list[str],
    schema: type[BaseModel],
    run: Callable[[Any], int],
    usage: str,
    problems: Callable[[Any], list[str]] = lambda config: [],
) -> int:
    """Run a command such as `rft verify runs/x key=key.pub.pem --rerun`, or print the help; return the exit code.

    Args:
        command: Name of the command.
        words: The folder, keys as `key=value`, and names of keys as `--key` that are true.
        schema: The keys; the first one is the folder.
        run: Runs the checked configuration.
        usage: The help, with `{keys}` in the place of all keys.
        problems: Returns problems across keys.

    Raises:
        ConfigError: The command line is wrong; contains all problems.
    """
    if not words or {"-h", "--help"} & {*words}:
        print(usage.format(keys=_keys(command, {"": (schema, run)})), end="")
        return 0 if words else 2
    flags = [f"{word[2:].replace('-', '_')}=true" for word in words if word.startswith("--")]
    places = [word for word in words if not word.startswith("--") and ("=" not in word or Path(word).exists())]
    given = [word for word in words if not word.startswith("--") and word not in places]
    if len(places) != 1:
        what = f"{len(places)} folders ({', '.join(places)})" if places else "no folder"
        raise ConfigError(
            "command line", [f"{what}; name one, and write the rest as key=value: {usage.splitlines()[0]}"]
        )
    values = OmegaConf.to_container(OmegaConf.merge({}, *map(_value, [*given, *flags])))
    assert isinstance(values, dict)
    return run(check(schema, {next(iter(schema.model_fields)): places[0], **values}, problems))


def _value(word: str) -> DictConfig:
    """Return the value of `key=value`; one that is no YAML, such as a template, is a text."""
    try:
        return OmegaConf.from_dotlist([word])
    except YAMLError:
        key, _, text = word.partition("=")
        values = OmegaConf.create()
        OmegaConf.update(values, key, text)
        return values


def _keys(command: str, actions: Actions) -> str:
    lines = []
    for action, (schema, _) in actions.items():
        fields = schema.model_fields
        width = max(map(len, fields))
        lines.append(f"rft {command} {action}".rstrip())
        lines += [f"  {name:<{width}}  {' '.join((field.description or '').split())}" for name, field in fields.items()]
    return "\n".join(lines)
