"""Rollouts, batches and policies that a run folder of a stranger records."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("hypothesis")
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st

from rft.learning.publication_record import FOLDER, PublicationRecord
from rft.run_folder.completions import read_completions
from rft.run_folder.recorder import Recorder
from rft.run_folder.rollout_files import read_rollout_lines
from rft.run_folder.token_shards import _digest, read_shard, shard_of
from rft.types import FullWeights, Policy, Publication

from .harness import as_json, cases, damaged, harmless, mutated, texts
from .test_data import LINES

WHOLE = b"".join(as_json(line) + b"\n" for line in LINES)


@pytest.mark.filterwarnings("ignore:.*damaged")
@cases(40, in_fuzz=900)
@given(
    compressed=damaged([gzip.compress(WHOLE, mtime=0), gzip.compress(WHOLE[:-1], mtime=0)]),
    plain=damaged([WHOLE]),
    newest=damaged([WHOLE]),
)
def test_segments_of_rollouts(compressed: bytes, plain: bytes, newest: bytes) -> None:
    folder = Path("run")
    folder.mkdir(exist_ok=True)
    for file in folder.iterdir():
        file.unlink()
    (folder / "rollouts-000001.jsonl.gz").write_bytes(compressed)
    (folder / "rollouts-000002.jsonl").write_bytes(plain)
    (folder / "rollouts.jsonl").write_bytes(newest)
    with harmless():
        read_completions("run", columns={}, phase=None)
    with harmless():
        before = list(read_rollout_lines(folder))
        Recorder.resume(folder, last_step=1).close()
        assert len(list(read_rollout_lines(folder))) <= len(before)


ABOUT = {"step": "3", "task_ids": '["t"]', "policies": '[{"version": 0, "fingerprint": "f"}]'}
TENSORS = {
    "group_sizes": [2],
    "indices": [0, 1],
    "policies": [0, 0],
    "stops": [0, 1],
    "rewards": [1.0, float("nan")],
    "prompt_lengths": [1, 1],
    "prompt_ids": [3, 3],
    "completion_lengths": [2, 1],
    "completion_ids": [4, 2, 5],
    "logprobs": [-0.5, -0.1, -0.25],
}
DTYPES = [np.int32, np.int64, np.float32, np.float64, np.uint8, np.bool_]


@st.composite
def shards(draw: st.DrawFn) -> bytes:
    """Shards with a valid checksum, which a stranger can compute, and other tensors and texts than those of rft."""
    tensors = {name: np.array(values) for name, values in TENSORS.items()}
    for name in draw(st.lists(st.sampled_from(sorted(TENSORS)), max_size=2)):
        if draw(st.booleans()):
            shape = draw(st.sampled_from([(), (0,), (2,), (3,), (2, 2)]))
            tensors[name] = np.full(shape, draw(st.integers(-3, 200)) % 256).astype(draw(st.sampled_from(DTYPES)))
        else:
            tensors.pop(name, None)
    about = {
        name: draw(st.just(text) | texts().filter(str.isascii) | mutated([json.loads(text)]).map(json.dumps))
        for name, text in ABOUT.items()
        if draw(st.integers(0, 9))
    }
    return safetensors.numpy.save(tensors, about | {"sha256": _digest(tensors, about)})


@cases(60, in_fuzz=900)
@given(content=shards() | shards().flatmap(lambda whole: damaged([whole])))
def test_shards_of_tokens(content: bytes) -> None:
    path = shard_of(Path("run"), 3)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    with harmless():
        for group in read_shard(Path("run"), 3):
            assert all(len(each.completion_ids) == len(each.logprobs) for each in group.rollouts)


ENTRIES: list[Any] = [
    [
        {
            "policy": {"version": version, "fingerprint": f"f{version}"},
            "adapter_config": {"r": 4},
            "canary_logprobs": [[-0.5]],
            "base_canary_logprobs": [[-1.0]],
        }
        for version in (1, 2)
    ]
]
NEWEST = Publication(
    weights=FullWeights(policy=Policy(version=2, fingerprint="f2"), tensors=memoryview(b"")),
    canary_logprobs=((-0.5,),),
    base_canary_logprobs=((-1.0,),),
)


@cases(40, in_fuzz=900)
@given(content=mutated(ENTRIES, ["policy", "fingerprint", "version"]).map(as_json) | damaged([as_json(ENTRIES[0])]))
def test_policies_of_checkpoints(content: bytes) -> None:
    folder = Path("checkpoint") / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "publications.json").write_bytes(content)
    (folder / "policy-v1-f1.safetensors").write_bytes(b"tensors")
    with harmless():
        PublicationRecord(Policy(version=0, fingerprint="base"), 1).load(Path("checkpoint"), NEWEST)
