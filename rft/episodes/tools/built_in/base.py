"""What the built-in tools have in common. The fields of each class are the options of its tool."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from functools import cached_property
from typing import Any

from rft.config.fields import Positive, PositiveSeconds, Section
from rft.grading.sandbox import Limits, Sandbox, SandboxError
from rft.types import Task

OUTPUT_BYTES = 1 << 18
"""Longest output of a program; the tool's `max_result_tokens` shortens what the model is told."""

Call = Callable[[Mapping[str, Any]], Awaitable[str]]
"""Runs a tool with checked arguments."""
Described = Mapping[str, tuple[str, Mapping[str, str]]]
"""Description of each tool, and the meaning of its parameters, which are all required texts."""


class BuiltIn(Section):
    """A built-in tool, or several with a common state."""

    @abstractmethod
    def described(self, name: str) -> Described:
        """Return the tools by name.

        Args:
            name: Name of the entry.
        """

    @abstractmethod
    def calls(self, name: str, task: Task) -> Mapping[str, Call]:
        """Return the calls of one episode by name.

        Args:
            name: Name of the entry.
            task: The task of the episode.

        Raises:
            ValueError: The task lacks what the tool works on.
        """

    def require(self) -> None:
        """Check what the tool needs from this machine.

        Raises:
            ValueError: Something is missing.
        """


class SandboxedTool(BuiltIn):
    """A tool whose calls are programs in the sandbox (docs/sandbox.md), at its highest rung that works here."""

    seconds: PositiveSeconds = 5.0
    """Time limit of the program of one call."""
    memory_mb: Positive = 512
    """Its memory limit in MiB."""
    packages: bool = False
    """Whether it may import installed packages in addition to the standard library."""
    allow_unsafe: bool = False
    """Whether it may run at rung 0, without walls."""

    @cached_property
    def sandbox(self) -> Sandbox:
        """The sandbox of this process.

        Raises:
            SandboxError: No rung works on this machine.
        """
        return Sandbox(allow_unsafe=self.allow_unsafe, packages=self.packages)

    @property
    def limits(self) -> Limits:
        """The limits of one call."""
        cpu_s = int(self.seconds) + 1
        return Limits(wall_s=self.seconds, cpu_s=cpu_s, memory_mb=self.memory_mb, output_bytes=OUTPUT_BYTES)

    def require(self) -> None:
        """Require a rung of the sandbox.

        Raises:
            ValueError: None works on this machine.
        """
        try:
            _ = self.sandbox
        except SandboxError as error:
            raise ValueError(str(error)) from error
