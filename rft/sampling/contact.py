"""Contact with samplers: their answers, and a sign of life from those that do not answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from typing import Any

from ray.exceptions import RayError

from rft.errors import WaitTimeout
from rft.sampling.engines import Engines, SamplerHandle
from rft.sampling.failures import loss
from rft.waiting import wait_for

PULSE_S = 10.0
"""Seconds that a silent sampler has to give a sign of life."""
STUCK_SHARE = 0.5
"""An engine hangs if it has completed no step for this share of `sampler.stall_timeout_s`."""


class Contact:
    """Calls of samplers with a deadline. A sampler that turns out to be lost is given up.

    Args:
        engines: The samplers.
        stall_timeout_s: Seconds until the next message of a sampler.
    """

    def __init__(self, engines: Engines, stall_timeout_s: float) -> None:
        self._engines = engines
        self._stall_timeout_s = stall_timeout_s

    async def ask(self, calls: Mapping[SamplerHandle, Awaitable[Any]], what: str) -> dict[SamplerHandle, Any]:
        """Wait for the answers of samplers.

        Args:
            calls: The awaited call of each sampler.
            what: The task of the samplers, such as "to load policy-v1-...".

        Returns:
            The answer or the exception of each sampler, without those that hang.

        Raises:
            WaitTimeout: A sampler that is alive did not answer in time.
        """
        tasks = {sampler: asyncio.ensure_future(call) for sampler, call in calls.items()}
        if not tasks:
            return {}
        try:
            await wait_for(
                asyncio.wait(tasks.values()),
                what=f"{len(tasks)} sampler(s) {what}",
                deadline_s=self._stall_timeout_s,
            )
        except WaitTimeout:
            late = [sampler for sampler, task in tasks.items() if not task.done()]
            if any(await asyncio.gather(*map(self.is_alive, late))):
                raise
        finally:
            for task in tasks.values():
                task.cancel()
        return {
            sampler: task.exception() or task.result()
            for sampler, task in tasks.items()
            if task.done() and not task.cancelled() and not sampler.is_lost
        }

    async def is_alive(self, sampler: SamplerHandle) -> bool:
        """Ask a silent sampler for a sign of life; give it up if it sends none, or if its engine hangs."""
        if sampler.is_lost:
            return False
        stall_s = self._stall_timeout_s
        try:
            stuck_s = await wait_for(
                sampler.actor.pulse.remote(), what=f"a sign of life of {sampler.name}", deadline_s=PULSE_S
            )
        except WaitTimeout:
            reason = f"{sampler.name} hangs: no message for {stall_s:g} s, and no sign of life within {PULSE_S:g} s"
        except RayError as error:
            reason = loss(sampler.name, error)
        else:
            if self._engines.spec.sampler.is_remote:
                reason = f"{sampler.name} got no reply of its server for {stall_s:g} s"
            elif stuck_s >= STUCK_SHARE * stall_s:
                reason = f"{sampler.name} hangs: its engine has completed no step for {stuck_s:.1f} s"
            else:
                return True
        self._engines.lose(sampler, reason)
        return False
