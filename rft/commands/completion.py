"""`rft completion`: scripts for tab completion."""

from __future__ import annotations

from rft.commands import COMMANDS
from rft.config.completion import SCRIPTS, candidates
from rft.errors import ConfigError

COMPLETION = """\
write rft completion bash, zsh or fish, and let the shell evaluate the output:
      bash   echo 'eval "$(rft completion bash)"' >> ~/.bashrc
      zsh    echo 'autoload -Uz compinit && compinit && eval "$(rft completion zsh)"' >> ~/.zshrc
      fish   echo 'rft completion fish | source' >> ~/.config/fish/config.fish"""
"""How to use `rft completion`."""


def completion(words: list[str]) -> int:
    """`rft completion bash|zsh|fish`: a script for the shell, which asks with `--candidates` and the words typed."""
    if words[:1] == ["--candidates"]:
        parsers = {command.name: command.parser for command in COMMANDS}
        print("\n".join(candidates(words[1:], parsers)))
        return 0
    if len(words) != 1 or words[0] not in SCRIPTS:
        raise ConfigError("command line", [COMPLETION])
    print(SCRIPTS[words[0]], end="")
    return 0
