"""What the learner's process imports."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

pytestmark = pytest.mark.e2e

PROGRAM = """
import json, sys, warnings
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    import rft.learning.trl_learner
print(json.dumps({
    "trl": "trl.trainer.grpo_trainer" in sys.modules,
    "vllm": [name for name in sys.modules if name.partition(".")[0] == "vllm"],
    "warnings": [str(one.message) for one in caught if "vLLM" in str(one.message)],
}))
"""


def test_the_learner_imports_trl_without_vllm() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    assert found == {"trl": True, "vllm": [], "warnings": []}
