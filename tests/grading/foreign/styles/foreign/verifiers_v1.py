"""As in verifiers v1: rewards that declare what they need by name."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import verifiers as vf  # noqa: F401 - the import declares the system


async def correct(task, trace) -> float:
    return float(trace.last_reply == task.answer)


async def several(trace):
    return {"short": 0.25 if len(trace.last_reply) < 5 else 0.0, "whole": 0.5 if not trace.is_truncated else 0.0}


def in_a_box(task, trace, runtime):
    return 1.0
