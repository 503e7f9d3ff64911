"""`rft doctor` asks a store."""

import pytest

from rft.doctor import store as doctor_store
from rft.doctor.store import store_findings
from rft.errors import ConfigError
from rft.retrieval.passages import Passage
from rft.retrieval.stores.protocol import StoreFault

WORDS = ["retrieval=http", "retrieval.url=http://localhost/search"]


def findings(monkeypatch, *, fingerprint="0123456789abcdef", found=()):
    class Answering:
        async def fingerprint(self):
            if isinstance(fingerprint, Exception):
                raise fingerprint
            return fingerprint

        async def search(self, queries, top_k):
            assert (len(queries), top_k) == (1, 4)
            return [list(found)]

        async def close(self):
            closed.append(True)

    closed: list[bool] = []
    monkeypatch.setattr(doctor_store, "open_store", lambda config: Answering())
    results = [(finding.check, finding.state, finding.found) for finding in store_findings(WORDS)]
    assert closed == [True]
    return results


FITS = ("store (http)", "ok", "fits the settings; fingerprint 0123456789abcdef")


def test_a_store_that_answers(monkeypatch):
    found = [Passage(id="a", text="x", score=0.75), Passage(id="b", text="y", score=0.5)]
    first, (check, state, text) = findings(monkeypatch, found=found)
    assert first == FITS
    assert (check, state) == ("search (http)", "ok")
    assert text.startswith("2 passages in ")
    assert text.endswith(" ms; scores 0.500 to 0.750")


def test_stores_with_a_problem(monkeypatch):
    assert findings(monkeypatch) == [FITS, ("search (http)", "warn", "the store answered, and found nothing")]
    for error in (StoreFault("the index is being built"), ValueError("the index is being built")):
        failed = ("store (http)", "fail", "the index is being built")
        assert findings(monkeypatch, fingerprint=error) == [failed]


def test_settings():
    assert list(store_findings(["retrieval=none"])) == []
    with pytest.raises(ConfigError) as caught:
        list(store_findings(["retrieval=http", "sampler=fake"]))
    assert "sampler=fake: only keys of retrieval belong here" in str(caught.value)
    with pytest.raises(ConfigError) as caught:
        list(store_findings(["retrieval=http", "retrieval.top_k=0"]))
    assert "retrieval.url is missing" in str(caught.value)
    assert "retrieval.top_k=0" in str(caught.value)


def test_a_variable_that_is_not_set(monkeypatch):
    monkeypatch.delenv("STORE_KEY", raising=False)
    (finding,) = store_findings([*WORDS, "retrieval.api_key_env=STORE_KEY"])
    assert (finding.state, finding.found.partition(";")[0]) == (
        "fail",
        "the environment variable STORE_KEY is not set",
    )
