"""`rft completion`: scripts for tab completion."""

from __future__ import annotations

from rft.commands import COMMANDS
from rft.config.completion import SCRIPTS, candidates
from rft.errors import ConfigError

COMPLETION = """\
run rft completion with bash, zsh or fish, and evaluate its output in the shell:
      bash   echo 'eval "$(rft completion bash)"' >> ~/.bashrc
      zsh    echo 'autoload -Uz compinit && compinit && eval "$(rft completion zsh)"' >> ~/.zshrc
      fish   echo 'rft completion fish | source' >> ~/.config/fish/config.fish"""
"""Usage of `rft completion`."""


def completion(words: list[str]) -> int:
    """Print the script of bash, zsh or fish, which calls `--candidates` with the typed words."""
    if words[:1] == ["--candidates"]:
        parsers = {command.name: command.parser for command in COMMANDS}
        print("\n".join(candidates(words[1:], parsers)))
        return 0
    if len(words) != 1 or words[0] not in SCRIPTS:
        raise ConfigError("command line", [COMPLETION])
    print(SCRIPTS[words[0]], end="")
    return 0
