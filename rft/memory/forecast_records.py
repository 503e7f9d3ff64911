"""The memory forecast of a command: the bytes of each process, and whether they fit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from rft.memory.device import Device, in_gb
from rft.memory.sizes import Sizes

KV_CACHE = "key-value cache"
"""Name of the part of an engine that holds the sequences."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessMemory:
    """The memory of one process, or of each of several equal ones.

    Example:
        ProcessMemory(name="reward model", gpus=0.2, parts={"weights": 988_000_000, "activations": 200_000_000})
    """

    name: str
    """Name in the forecast, unique."""
    parts: Mapping[str, int]
    """Bytes by part; for an engine that spans several GPUs, those on each GPU."""
    gpus: float = 0.0
    """GPUs of the process, or the fraction that it shares; 0 if it uses main memory."""
    count: int = 1
    """Number of such processes."""
    num_sequences: int | None = None
    """Sequences of full length that the key-value cache holds; None without a cache of known size."""
    sequence_tokens: int = 0
    """Length of these sequences: prompt and completion."""
    resting_bytes: int = 0
    """Bytes that the process keeps while it waits for engines that otherwise sleep."""
    resting_gpus: float = 0.0
    """GPUs that these engines leave it; 0 if no engine sleeps."""

    @property
    def num_bytes(self) -> int:
        """Bytes of the process, on each of its GPUs."""
        return sum(self.parts.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """The memory that a command needs, by process.

    Example:
        Forecast(processes=(ProcessMemory(name="sampler", ...),), device=Device(...))
    """

    processes: tuple[ProcessMemory, ...]
    """The processes of the command."""
    device: Device
    """The memory that they can use."""
    remedies: tuple[str, ...] = ()
    """Changes that help, the cheapest first; empty if everything fits."""

    def limit_bytes(self, process: ProcessMemory) -> int | None:
        """Return the bytes that a process can use; None if unknown."""
        if process.gpus == 0:
            return self.device.ram_bytes
        return int(min(1.0, process.gpus) * self.device.gpu_bytes) if self.device.gpu_bytes else None

    def fits(self, process: ProcessMemory) -> bool:
        """Return whether a process fits, at work and at rest. Unknown memory counts as enough."""
        return self.works(process) and self.rests(process)

    def works(self, process: ProcessMemory) -> bool:
        """Return whether a process fits while it works; processes in main memory share it."""
        needed = process.num_bytes if process.gpus else self.ram_bytes()
        limit = self.limit_bytes(process)
        has_room = process.num_sequences is None or process.num_sequences >= 1
        return has_room and (limit is None or needed <= limit)

    def rests(self, process: ProcessMemory) -> bool:
        """Return whether a process fits beside engines that are awake and otherwise sleep."""
        limit = self._resting_limit_bytes(process)
        return limit is None or process.resting_bytes <= limit

    def _resting_limit_bytes(self, process: ProcessMemory) -> int | None:
        if not process.resting_gpus or self.device.gpu_bytes is None:
            return None
        return int(process.resting_gpus * self.device.gpu_bytes)

    def ram_bytes(self) -> int:
        """Return the main memory that all processes need together."""
        return sum(process.count * process.num_bytes for process in self.processes if not process.gpus)

    def rows(self) -> dict[str, str]:
        """Describe the memory of each process, by its name."""
        return {f"{process.name} memory": self._row(process) for process in self.processes}

    def problems(self) -> list[str]:
        """Describe each process that does not fit, one sentence each."""
        problems = []
        for process in self.processes:
            if not self.rests(process):
                problems.append(
                    f"the {process.name} keeps {in_gb(process.resting_bytes)} while the samplers are awake, which "
                    f"leave it {in_gb(self._resting_limit_bytes(process) or 0)}; they sleep only during its step"
                )
            if self.works(process):
                continue
            limit = self.limit_bytes(process)
            where = _where(process)
            if process.num_sequences == 0:
                problems.append(
                    f"the {process.name}'s key-value cache of {in_gb(process.parts.get(KV_CACHE, 0))} holds no "
                    f"sequence of {process.sequence_tokens} tokens"
                )
            elif process.gpus:
                problems.append(
                    f"the {process.name} needs {in_gb(process.num_bytes)} ({_sum_of(process.parts)}), but {where} has "
                    f"{in_gb(limit or 0)}"
                )
        if any(not process.gpus and not self.fits(process) for process in self.processes):
            each = {p.name: p.count * p.num_bytes for p in self.processes if not p.gpus}
            problems.append(
                f"the processes need {in_gb(self.ram_bytes())} of main memory ({_sum_of(each)}), but "
                f"{in_gb(self.device.ram_bytes or 0)} are free"
            )
        return problems

    def warning(self) -> str | None:
        """Describe everything that does not fit, with the remedies; None if everything fits."""
        problems = self.problems()
        if not problems:
            return None
        remedy = f"; the cheapest first: {'; '.join(self.remedies)}" if self.remedies else ""
        return f"memory: {'; '.join(problems)}{remedy}"

    def lines(self) -> list[str]:
        """Return one line for each process, and a warning if one does not fit."""
        warning = self.warning()
        return [f"{name}: {row}" for name, row in self.rows().items()] + ([f"warning: {warning}"] if warning else [])

    def _row(self, process: ProcessMemory) -> str:
        limit = self.limit_bytes(process)
        of_limit = f" of {in_gb(limit)}" if limit is not None and process.gpus else ""
        many = f"{process.count} x " if process.count > 1 else ""
        row = f"{many}{in_gb(process.num_bytes)}{of_limit} on {_where(process)}: {_sum_of(process.parts)}"
        if process.num_sequences is not None:
            row += f"; the cache holds {process.num_sequences:,} sequences of {process.sequence_tokens} tokens"
        return row


@dataclass(frozen=True, slots=True, kw_only=True)
class RunForecast(Forecast):
    """The memory that a training run needs, and the sizes that depend on it.

    Example:
        RunForecast(processes=(ProcessMemory(name="learner", ...), ...), device=Device(...), sizes=Sizes(...))
    """

    sizes: Sizes
    """The sizes that the run uses."""
    why_sleep: str = ""
    """Reason why the samplers sleep while the learner works, or why not; empty if the question does not arise."""

    def rows(self) -> dict[str, str]:
        """Describe the memory of each process, by its name, and whether the samplers sleep."""
        if not self.why_sleep:
            return Forecast.rows(self)
        when = "during each step of the learner" if self.sizes.samplers_sleep else "never"
        return Forecast.rows(self) | {"samplers sleep": f"{when}: {self.why_sleep}"}

    def facts(self) -> dict[str, Any]:
        """Return sizes and memory as entries of manifest.json."""
        memory = {process.name: dict(process.parts) for process in self.processes}
        return {"sizes": asdict(self.sizes), "memory_bytes": memory}


def _where(process: ProcessMemory) -> str:
    if not process.gpus:
        return "the CPU"
    return f"{process.gpus:.3g} of a GPU" if process.gpus < 1 else "each GPU" if process.gpus > 1 else "its GPU"


def _sum_of(parts: Mapping[str, int]) -> str:
    return " + ".join(f"{name} {in_gb(num_bytes)}" for name, num_bytes in parts.items() if num_bytes)
