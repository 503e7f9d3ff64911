"""Every command has a file and a function of its name, and `--help` imports nothing heavy."""

from __future__ import annotations

import importlib

import pytest

from rft.commands import COMMANDS, Command


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_a_command_has_a_function_of_its_name(command: Command) -> None:
    name = command.python_name
    module = importlib.import_module(f"rft.commands.{name}")
    assert callable(getattr(module, name))
    assert command.has_options == hasattr(module, "parser")
    if command.parser is not None:
        assert command.parser().prog == f"rft {command.name}"
