"""`sampler.serve=auto`: which way of serving a policy makes a step shorter, by trying both.

An adapter is loaded faster than it is merged, but every token then costs more. Which of the two weighs more depends on
the model, the machine and how much is sampled between two syncs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What one way of serving came to.

    Example:
        Trial(load_s=0.006, tokens_per_s=1700.0)
    """

    load_s: float
    """For bringing a new policy into the engine and reading it back."""
    tokens_per_s: float
    """Sampled under it."""

    def seconds(self, num_tokens: int) -> float:
        """For one sync and the tokens sampled after it."""
        return self.load_s + num_tokens / self.tokens_per_s


def choose(adapter: Trial, merged: Trial, *, tokens_per_sync: int) -> tuple[Literal["adapter", "merged"], str]:
    """The faster way, and the measurement behind it in one line; an adapter where both are equal.

    Args:
        adapter: The trial of the adapter beside the base model.
        merged: The trial of the adapter merged into it.
        tokens_per_sync: What one sampler samples between two syncs.
    """
    seconds = {"adapter": adapter.seconds(tokens_per_sync), "merged": merged.seconds(tokens_per_sync)}
    told = ", ".join(
        f"{name} {seconds[name]:.3g} s (load {trial.load_s:.2g} s, {trial.tokens_per_s:.0f} tokens/s)"
        for name, trial in (("adapter", adapter), ("merged", merged))
    )
    reason = f"a sync and the {tokens_per_sync} tokens after it take {told}"
    return ("merged" if seconds["merged"] < seconds["adapter"] else "adapter"), reason
