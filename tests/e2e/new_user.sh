#!/usr/bin/env bash
# A new user's path, from the clone to a model in plain vLLM, with a model, tasks and a grader of their own.
# Run in an empty folder: new_user.sh <repository> <environment with rft installed>
set -euo pipefail
git clone --quiet "$1" rft
export PATH="$2/bin:$PATH" PYTHONPATH="$PWD/rft"

# A model of one's own: any folder in Hugging Face's format.
cp -r rft/rft/embedded/model my-model

# Tasks of one's own.
python - <<'PYTHON'
import json
from pathlib import Path

lines = [
    json.dumps({"prompt": f"State the final answer to the following arithmetic problem: {a} + {b} =", "answer": str(a + b)})
    for a in range(11, 20)
    for b in range(21, 30)
]
Path("tasks.jsonl").write_text("\n".join(lines) + "\n")
PYTHON

# A grader of one's own.
cat > my_graders.py <<'PYTHON'
from rft.grading import final_answer


def correct(completion, task):
    return final_answer(completion) == task.item["answer"]
PYTHON

rft audit data=tasks.jsonl graders.correct.use=my_graders.py:correct

run=(
    model.path=my-model data.train=tasks.jsonl data.validation_share=0.2 sampler.max_completion_tokens=48
    graders.correct.use=my_graders.py:correct
    loop.steps=2 loop.prompts_per_step=4 loop.completions_per_prompt=4 output_dir=run
)
rft train "${run[@]}"
rft merge adapter=run output_dir=merged

# vLLM alone, without rft.
cat > plain_vllm.py <<'PYTHON'
from vllm import LLM, SamplingParams

if __name__ == "__main__":
    model = LLM("merged", dtype="float32", max_model_len=256, kv_cache_memory_bytes=1 << 28, enforce_eager=True)
    question = "State the final answer to the following arithmetic problem: 12 + 25 ="
    (reply,) = model.chat([{"role": "user", "content": question}], SamplingParams(temperature=0, max_tokens=48))
    print(f"vLLM says: {reply.outputs[0].text}")
PYTHON
env --unset=PYTHONPATH python plain_vllm.py
