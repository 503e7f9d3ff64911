"""Certificates of strangers: the form of the envelope, and what is refused before anything is looked up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import rft.evidence.certificate.envelope as envelope_module
from rft.errors import UsageError
from rft.evidence.certificate.envelope import pae, read_envelope
from rft.evidence.certificate.materials import find_material
from rft.evidence.certificate.statement import Statement, read_statement


def test_pae_is_that_of_the_specification() -> None:
    # The example of https://github.com/secure-systems-lab/dsse/blob/v1.0.2/protocol.md
    expected = b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    assert pae("http://example.com/HelloWorld", b"hello world") == expected
    assert pae("\u00e9", b"") == b"DSSEv1 2 \xc3\xa9 0 "  # lengths count bytes


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"subject": [{"name": "../../.ssh/id", "digest": {"sha256": "0" * 64}}]}, "leaves the adapter's folder"),
        ({"subject": [{"name": "/etc/passwd", "digest": {"sha256": "0" * 64}}]}, "leaves the adapter's folder"),
        ({"subject": [{"name": "a\x1b[2J", "digest": {"sha256": "0" * 64}}]}, "control characters"),
        ({"subject": [{"name": "a", "digest": {"sha256": "yes"}}]}, "is no SHA-256"),
        ({"subject": [{"name": "a", "digest": {"sha256": "0" * 64}}] * 2}, "one name twice"),
        ({"subject": []}, "no file of an adapter"),
        ({"subject": 3}, "no statement of rft certify"),
        ({"predicateType": "https://slsa.dev/provenance/v1"}, "no statement of rft certify"),
        ({"subject": [{"name": str(n), "digest": {"sha256": "0" * 64}} for n in range(10_001)]}, "lists 10,0"),
    ],
)  # fmt: skip
def test_statements_that_are_refused(change: dict[str, Any], message: str) -> None:
    own = Statement(subject={"a": "0" * 64}, materials=(), facts={}, checked=())
    assert read_statement(own.to_payload(), Path("certificate.json")) == own
    values = json.loads(own.to_payload()) | change
    with pytest.raises(UsageError, match=message):
        read_statement(json.dumps(values).encode(), Path("certificate.json"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[" * 100_000, "is not JSON"),
        (b"[]", "contains no JSON object"),
        (b'{"payloadType": "text/plain"}', "payloadType is 'text/plain'"),
        (b'{"payloadType": "application/vnd.in-toto+json", "payload": "%"}', "no DSSE envelope"),
        (b'{"payloadType": "application/vnd.in-toto+json", "payload": "", "signatures": 1}', "no DSSE envelope"),
        (b" " * 2001, "has more than 2,000 bytes"),
    ],
)
def test_envelopes_that_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, message: str
) -> None:
    if message.startswith("has more"):
        monkeypatch.setattr(envelope_module, "MAX_BYTES", 2000)
    (tmp_path / "certificate.json").write_bytes(content)
    with pytest.raises(UsageError, match=message):
        read_envelope(tmp_path / "certificate.json")


def test_places_of_a_stranger() -> None:
    def find(uri: str) -> Path | str:
        return find_material(uri, run=Path("/runs/x"), base=None, name="data/test")

    assert find("run:metrics.jsonl") == Path("/runs/x/metrics.jsonl")
    assert find("run:../../etc/passwd") == find("python:rft/../../x") == "its path leaves the folder"
    assert find("run:/etc/passwd") == "its path leaves the folder"
    assert find("file:///tmp/a%20b") == Path("/tmp/a b")
    assert find("file://host/tmp/a") == "no place on this machine"
    assert find("https://host/a") == "https: is no place that rft knows"
    assert find("python:os/path.py") == "os is no package that rft knows"
