"""Probes of texts: replies that nobody expects, and control tokens in what the environment says."""

from __future__ import annotations

import re

from rft.auditing.environments.policies import ODD, odd
from rft.auditing.environments.profile import EnvironmentProfile
from rft.auditing.findings import Finding, failed, passed, warned
from rft.auditing.probe import Probe

CONTROL = re.compile(r"<\|[^\s<>|]{1,40}\|>|</?s>|\[/?INST\]|<(?:start|end)_of_turn>|<(?:bos|eos|pad|unk)>")
"""How the control tokens of common models are spelled."""


async def odd_replies(profile: EnvironmentProfile) -> Finding:
    """Check that no reply makes the environment fail."""
    task = profile.tasks[0]
    episodes = {name: await profile.player.play(task, odd(reply)) for name, reply in ODD.items()}
    faults = {name: episode for name, episode in episodes.items() if episode.has_failed}
    figures = {"replies": len(episodes), "faults": len(faults)}
    if faults:
        name, first = next(iter(faults.items()))
        message = f"{len(faults)} of {len(episodes)} odd replies make the environment fail, such as {name}: "
        return failed(message + str(first.score.reason), list(faults.values()), **figures)
    return passed(f"none of {len(episodes)} odd replies makes the environment fail", **figures)


async def control_tokens(profile: EnvironmentProfile) -> Finding:
    """Search what the environment says for the spelling of control tokens."""
    found = {
        spelled: episode
        for episode in profile.ordinary
        for before in episode.heard
        for message in before
        for spelled in CONTROL.findall(str(message["content"]))
    }
    if found:
        message = f"the environment spells {', '.join(found)}; rft passes them on as text, other systems as tokens"
        return warned(message, list(found.values()), spelled=list(found))
    return passed("the environment spells no control token")


PROBES = (
    Probe(
        name="odd replies",
        family="texts",
        why="While it explores, a policy says everything. An exception is a fault of the environment: the episode has "
        "no reward, so the policy never learns that the reply was wrong.",
        how="Control tokens, a null character, numbers that int() refuses, half an object, 300 digits and others.",
        threshold="fails if one of them ends in a fault",
        remedy="Check a reply before you convert it (str.isdecimal, not str.isdigit), and score or tell what is wrong; "
        "a tool raises ToolError.",
        run=odd_replies,
    ),
    Probe(
        name="control tokens",
        family="texts",
        why="An observation that becomes control tokens ends the message and speaks as another role.",
        how="The observations of ordinary episodes.",
        threshold="warns if one spells a control token of a common model",
        remedy="Send plain text; the chat template adds the control tokens.",
        run=control_tokens,
    ),
)
