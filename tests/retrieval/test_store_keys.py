"""Settings of the stores that are refused before anything starts."""

import pytest

from rft.config.commands import load_training
from rft.errors import ConfigError

WORDS = ["model.path=embedded:tiny", "data=chain_sum", "graders.correct.use=exact", "sampler=fake", "learner=fake"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["retrieval=mongodb_atlas", "retrieval.uri_env=mongodb+srv://ada:pw-of-ada@host"],
            "retrieval.uri_env=mongodb+srv://<redacted>@host: should be the name of an environment variable",
        ),
        (["retrieval=mongodb_atlas", "retrieval.uri_env=pw/of/ada"], "should be the name of an environment variable"),
        (["retrieval=mongodb_atlas", "retrieval.uri=x"], "retrieval.uri is unknown for retrieval=mongodb"),
        (["retrieval=mongodb_atlas", "retrieval.num_candidates=50"], "add retrieval.exact=false"),
        (
            ["retrieval=local"],
            "retrieval=local needs retrieval.index=<folder that rft index build made>, or retrieval.d",
        ),
        (
            ["retrieval=local", "retrieval.index=i", "retrieval.documents=d"],
            "retrieval.documents=d: give one of the two",
        ),
        (
            ["retrieval=local", "retrieval.documents=no.jsonl", "evaluation.metric=speed"],
            "retrieval.documents=no.jsonl: no file at",
        ),
        (
            ["retrieval=local", "retrieval.index=i", "retrieval.embedder.kind=hashing"],
            "retrieval.embedder: only for retrieval.documents",
        ),
        (
            ["evaluation.arms=true"],
            "evaluation.arms=true: compares results with and without passages, and retrieval=none",
        ),
        (
            ["evaluation.arms=true", "retrieval=local", "data.test=null", "data.validation=null"],
            "evaluation.arms=true: nothing is measured before and after the run; give data.test or data.validation",
        ),
        (["retrieval=http"], "retrieval.url is missing: Address of the service"),
        (["retrieval=http", "retrieval.url=https://ada:pw-of-ada@host/search"], "should hold no user, password or key"),
        (["retrieval=http", "retrieval.url=host/search"], "should begin with http:// or https://"),
        (["retrieval=pgvector", "retrieval.table=posts"], "retrieval.embedder is missing"),
        (
            ["retrieval=mongodb_atlas", "retrieval.embedder.url=https://ada:pw-of-ada@host/v1"],
            "retrieval.embedder.url=https://<redacted>@host/v1: should hold no user, password or key",
        ),
        (["retrieval=mongodb_atlas"], "retrieval=mongodb needs pymongo; run: pip install 'rft[mongodb]'"),
        (
            ["retrieval=pgvector", "retrieval.table=posts", "retrieval.embedder.kind=hashing"],
            "retrieval=pgvector needs asyncpg; run: pip install 'rft[pgvector]'",
        ),
    ],
)
def test_refused_settings(words, message, monkeypatch):
    monkeypatch.setattr("rft.imports.is_installed", lambda package: package not in ("pymongo", "asyncpg"))
    with pytest.raises(ConfigError) as caught:
        load_training([*WORDS, *words])
    assert message in str(caught.value)
    assert "pw-of-ada" not in str(caught.value)
