"""Commands with actions, such as `rft index build`: each action has a schema, and a function that runs it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
        lines.append(f"rft {command} {action}")
        lines += [f"  {name:<{width}}  {' '.join((field.description or '').split())}" for name, field in fields.items()]
    return "\n".join(lines)
