"""Rollouts, batches and policies that a run folder of a stranger records."""

from __future__ import annotations

import gzip
import json
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("hypothesis")
import safetensors.numpy
from hypothesis import example, given
from hypothesis import strategies as st

from rft.health.status import read_status, status_lines
from rft.learning.publication_record import FOLDER, PublicationRecord
from rft.run_folder.completions import read_completions
from rft.run_folder.recorder import Recorder
from rft.run_folder.rollout_files import read_rollout_lines
from rft.run_folder.token_shards import _digest, read_shard, shard_of
from rft.types import FullWeights, Policy, Publication

from .harness import DEEP, as_json, cases, damaged, harmless, mutated, texts
from .test_data import LINES

WHOLE = b"".join(as_json(line) + b"\n" for line in LINES)


@pytest.mark.filterwarnings("ignore:.*damaged")
@cases(20, in_fuzz=900)
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
ARRAYS = {name: np.array(values) for name, values in TENSORS.items()}
NEW_TYPE = as_json({"rewards": {"dtype": "BF16", "shape": [1], "data_offsets": [0, 2]}})
"""Header with a type that numpy lacks."""


def sealed(tensors: dict[str, Any], about: dict[str, str]) -> bytes:
    """A shard with a valid checksum, which a stranger can compute."""
    return safetensors.numpy.save(tensors, about | {"sha256": _digest(tensors, about)})


@st.composite
def shards(draw: st.DrawFn) -> bytes:
    """Sealed shards with other tensors and texts than those of rft."""
    tensors = dict(ARRAYS)
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
    return sealed(tensors, about)


@cases(30, in_fuzz=900)
@example(content=sealed(ARRAYS, {"task_ids": ABOUT["task_ids"], "policies": ABOUT["policies"]}))
@example(content=sealed(ARRAYS, {"step": "3"}))
@example(content=sealed(ARRAYS, ABOUT | {"policies": DEEP[0].decode()}))
@example(content=sealed(ARRAYS, ABOUT | {"policies": "[{}]"}))
@example(content=sealed(ARRAYS | {"policies": np.array([0, 9])}, ABOUT))
@example(content=len(NEW_TYPE).to_bytes(8, "little") + NEW_TYPE + bytes(2))
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


CLIMBING = "a/../../../../outside"
"""A fingerprint that leads out of the working folder, if there is a folder `policy-v1-a`."""


@cases(20, in_fuzz=900)
@example(content=DEEP[0])
@example(content=b"{}")
@example(content=as_json([ENTRIES[0][0] | {"policy": {"version": 1}}, ENTRIES[0][1]]))
@example(content=as_json([ENTRIES[0][0] | {"policy": {"version": 1, "fingerprint": CLIMBING}}, ENTRIES[0][1]]))
@given(content=mutated(ENTRIES, ["policy", "fingerprint", "version"]).map(as_json) | damaged([as_json(ENTRIES[0])]))
def test_policies_of_checkpoints(content: bytes) -> None:
    folder = Path("checkpoint") / FOLDER
    (folder / "policy-v1-a").mkdir(parents=True, exist_ok=True)
    (folder / "publications.json").write_bytes(content)
    (folder / "policy-v1-f1.safetensors").write_bytes(b"tensors")
    with harmless():
        PublicationRecord(Policy(version=0, fingerprint="base"), 1).load(Path("checkpoint"), NEWEST)


HEARTBEAT = {
    "written_at": "2026-11-28T10:15:00+00:00",
    "written_at_uptime_s": 1.5,
    "host": socket.gethostname(),
    "pid": 1,
    "process_start_ticks": None,
    "every_s": 5.0,
    "status": "running",
    "phase": "training",
    "step": 7,
    "steps": 20,
    "step_s": 4.0,
    "waits": [{"what": "1 of 64 completions", "waited_s": 75.0, "deadline_s": 300.0}],
    "recovery": {"sampler_restarts": 2.0},
    "lost": {"sampler 1": "sampler 1 hangs"},
    "warnings": [{"time": "2026-11-28T10:15:00+00:00", "text": "sampler 1 is gone"}],
    "disk_free_bytes": 12_340_000_000,
    "resume": None,
    "metrics_at": None,
}
STATES = {"heartbeat.json": HEARTBEAT, "summary.json": {"status": "interrupted", "steps": 3, "resume": "rft train"}}


@cases(15, in_fuzz=900)
@example(name="heartbeat.json", content=DEEP[1])
@example(name="heartbeat.json", content=b"{}")
@example(name="heartbeat.json", content=as_json(HEARTBEAT | {"host": "elsewhere", "step_s": "4"}))
@example(name="heartbeat.json", content=as_json(HEARTBEAT | {"phase": "\ud800"}))
@example(name="summary.json", content=as_json({"steps": 3}))
@given(
    name=st.sampled_from(sorted(STATES)),
    content=mutated(list(STATES.values()), list(HEARTBEAT)).map(as_json) | damaged(list(map(as_json, STATES.values()))),
)
def test_states_of_runs(name: str, content: bytes) -> None:
    folder = Path("run")
    folder.mkdir(exist_ok=True)
    for each in STATES:
        (folder / each).unlink(missing_ok=True)
    (folder / name).write_bytes(content)
    with harmless():
        assert "\n".join(text for _, text in status_lines(read_status(folder), folder)).encode()
