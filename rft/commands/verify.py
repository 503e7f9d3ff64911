"""`rft verify`: check what somebody signed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.console import Console

from rft.commands.actions import run_on_folder
from rft.config.certificates import VerifyConfig
from rft.metrics.intervals import Estimate
from rft.metrics.retention_report import guard_notes
from rft.wording import plural

if TYPE_CHECKING:
    from rft.evidence.certificate.verification import Verification

USAGE = """\
usage: rft verify <adapter> key=key.pub.pem [--rerun] [--complete]
       rft verify <adapter> identity=you@example.org issuer=https://accounts.google.com

Check the signature of the certificate, and every file and value that it lists. The exit code is 1 if anything differs.

{keys}
"""


def verify(words: list[str]) -> int:
    """Check, and print what differs; return the exit code: 0 if nothing does, else 1."""
    return run_on_folder("verify", words, VerifyConfig, _verify, USAGE)


def _verify(config: VerifyConfig) -> int:
    from rft.api.verify import measure_again
    from rft.api.verify import verify as verify_certificate

    verified = verify_certificate(
        config.result,
        config.key,
        identity=config.identity,
        issuer=config.issuer,
        online=config.online,
        base_model=config.base_model,
    )
    print("\n".join(_lines(verified)))
    is_valid = verified.is_valid and not (config.complete and verified.absent)
    print(_verdict(verified, is_complete=config.complete))
    if not (is_valid and config.rerun):
        return int(not is_valid)
    again = measure_again(verified, Console())
    where = "within" if again.is_within else "outside of"
    print(f"measured again: {again.measured.text()}, {where} the certified {again.certified.text()}")
    return int(not again.is_within)


def _lines(verified: Verification) -> Iterator[str]:
    facts = verified.statement.facts
    yield f"{verified.result}: {'signed' if verified.is_signed else 'NOT SIGNED'} by {verified.signer}"
    if verified.is_signed:  # a stranger's claims are not worth showing
        comparison = facts["comparison"]
        for name in ("before", "after", "difference"):
            if comparison[name]:
                text = Estimate.from_json(comparison[name]).text(signed=name == "difference")
                yield f"  {comparison['metric']} {name}: {text}"
        yield from (
            f"  {note}" for note in [*guard_notes(facts["forgetting"]["families"]), *facts["forgetting"]["left_out"]]
        )
        yield f"  syncs proved: {facts['syncs']['proved']} of {facts['syncs']['all']}"
    yield f"  the same: {plural(len(verified.same), 'listed item')}"
    yield from (f"  {mismatch}" for mismatch in verified.mismatches)
    yield from (f"  not here  {name}: {why}" for name, why in verified.absent.items())


def _verdict(verified: Verification, *, is_complete: bool) -> str:
    if verified.mismatches:
        return f"the certificate does not hold: {plural(len(verified.mismatches), 'difference')}"
    if verified.absent and is_complete:
        return f"incomplete: {plural(len(verified.absent), 'listed file')} not here"
    left = f"; {plural(len(verified.absent), 'listed file')} not here, so not checked" if verified.absent else ""
    return f"the certificate holds{left}"
