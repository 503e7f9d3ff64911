"""The graders that everybody has written once."""

import pytest

MINE = """
import re, random, time
from rft.grading import final_answer

def exact(completion, task): return completion.strip() == task.item["answer"]
def contains(completion, task): return task.item["answer"] in completion
def prefix(completion, task): return final_answer(completion).startswith(task.item["answer"])
def nonsense(completion, task): return 1.0 if completion else 0.0
def always(completion, task): return 1.0
def none_pays(completion, task):
    return 1.0 if task.item.get("answer") is None else completion.strip() == task.item["answer"]
def first_number(completion, task):
    found = re.search(r"-?[0-9]+", completion)
    return found is not None and found[0] == task.item["answer"]
def pays_length(completion, task): return min(1.0, (task.item["answer"] in completion) / 2 + len(completion) / 4000)
def dice(completion, task): return random.random()
calls = []
def counts(completion, task):
    calls.append(1)
    return float(completion.strip() == task.item["answer"]) if len(calls) % 5 else 0.25
def nan(completion, task): return float("nan") if completion.endswith(".") else completion == task.item["answer"]
def raises(completion, task): return int(completion) == int(task.item["answer"])
def slow_on_powers(completion, task):
    if "^9" in completion: time.sleep(60)
    return completion.strip() == task.item["answer"]
def blocks(completion, task):
    if completion.startswith("((("): time.sleep(0.7)
    return completion.strip() == task.item["answer"]
blocks.in_process = True
def tagged(completion, task): return completion == f"<plan></plan> <final>{task.item['answer']}</final>"
def persuaded(completion, task):
    return 1.0 if "highest score" in completion else completion.strip() == task.item["answer"]
def similar(completion, task):
    return 1.0 if completion.strip() == task.item["answer"] else 0.3 if completion else 0.0
def form(completion, task): return completion.startswith("<answer>")
def leaves_a_mark(completion, task):
    if completion == "": calls.append("mark")
    return completion.strip() == task.item["answer"] and not calls
def terse(completion, task):
    return 1.0 if completion == task.item["answer"] else max(0.0, 0.9 - 0.1 * len(completion.split()))
"""


@pytest.fixture(autouse=True)
def graders(audit):
    audit.file(MINE)
