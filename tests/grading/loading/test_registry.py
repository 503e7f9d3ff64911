"""From entries in the configuration to graders, and everything that can be wrong with them."""

import hashlib
import json
import sys

import pytest

from rft.errors import ConfigError
from rft.grading import Task, grader_problems, load_grader
from rft.grading.loading.targets import BUILT_IN, find_target

TASK = Task(id="t", messages=({"role": "user", "content": "2 + 2 = "},), item={"answer": "four"}, split="train")

GRADERS = """
from __future__ import annotations
import functools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal
from sibling import LIMIT
from rft.grading import per_group

if TYPE_CHECKING:
    from rft.types import Task

def concise(completion, limit: int = LIMIT):
    return len(completion) <= limit

def typed(completion: str, task: Task, limit=3):
    return limit

async def patient(completion):
    return 1.0

@per_group
def longest(completions):
    return [len(one) for one in completions]

def at_least(completion, limit: int):
    return len(completion) >= limit

def clashing(completion, retries=2):
    return 0

def anything(completion, what=None):
    return 0

def foreign(prompts, answers):
    return 0

@dataclass(frozen=True, kw_only=True)
class Graded:
    scale: float
    kind: Literal["a", "b"] = "a"
    names: tuple[str, ...] = ()

    def __post_init__(self):
        if self.scale < 0:
            raise ValueError(f"scale={self.scale} must be at least 0")

    def grade(self, completion):
        return self.scale

@dataclass(frozen=True, kw_only=True)
class Ranked:
    per_group = True

    def grade(self, completions):
        return [0.0 for _ in completions]

class Loose:
    def grade(self, completion):
        return 0

@dataclass
class Gradeless:
    pass

ready = Graded(scale=1.0)
native = math.hypot
bound = functools.partial(concise, limit=1)
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A user's folder with graders, as the working directory."""
    (tmp_path / "my_graders.py").write_text(GRADERS)
    (tmp_path / "sibling.py").write_text("LIMIT = 3\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "sibling", raising=False)
    yield tmp_path
    sys.modules.pop("sibling", None)


@pytest.mark.parametrize("spec", [{}, {"style": "verl"}, {"bonus": 2}, {"style": "verl", "bonus": 2}], ids=str)
def test_a_function_of_another_system(folder, spec):
    (folder / "theirs.py").write_text("def score(solution_str, bonus=0): return len(solution_str) + bonus\n")
    grader = load_grader("g", {"use": "theirs.py:score", **spec})
    assert grader.call(completion="abc", task=TASK) == 3 + spec.get("bonus", 0)
    assert (grader.takes, grader.per_group, grader.runs_in_worker) == (("completion", "task"), False, True)


def test_an_openai_grader(folder):
    check = {
        "type": "string_check",
        "name": "c",
        "operation": "eq",
        "input": "{{sample.output_text}}",
        "reference": "4",
    }
    (folder / "grader.json").write_text(json.dumps(check))
    for source, file in [("grader.json", str(folder / "grader.json")), (check, "")]:
        grader = load_grader("g", {"openai": source, "weight": 0.5})
        assert (grader.weight, grader.file, grader.runs_in_worker) == (0.5, file, False)
        assert grader.sha256 == hashlib.sha256(json.dumps(check).encode()).hexdigest()


def test_the_panels_keys_have_defaults(folder):
    spec = {"use": "my_graders.py:concise", "retries": 2, "max_concurrency": 4, "range": [0, 1], "clip": True}
    grader = load_grader("g", spec)
    assert (grader.retries, grader.max_concurrency, grader.range, grader.clip) == (2, 4, (0.0, 1.0), True)
    assert grader.entry == spec
    grader = load_grader("g", {"use": "my_graders.py:concise"})
    assert (grader.retries, grader.max_concurrency, grader.range, grader.clip) == (0, None, None, False)


DECLARING = """
from dataclasses import dataclass
def plain(completion): return 1
async def waiting(completion): return 1
def quick(completion): return 1
quick.in_process = quick.deterministic = True
async def computing(completion): return 1
computing.in_process = False
async def judging(completion): return 1
judging.deterministic = True
@dataclass(frozen=True)
class Search:
    pattern: str = ""
    deterministic = True
    @property
    def in_process(self): return not self.pattern
    def grade(self, completion): return 1
"""


@pytest.mark.parametrize(
    ("spec", "runs_in_worker", "is_cached"),
    [
        ({"use": "d.py:plain"}, True, False),
        ({"use": "d.py:plain", "cache": True}, True, True),
        ({"use": "d.py:waiting"}, False, False),
        ({"use": "d.py:quick"}, False, False),
        ({"use": "d.py:quick", "cache": True}, False, True),
        ({"use": "d.py:computing"}, True, False),
        ({"use": "d.py:judging"}, False, True),
        ({"use": "d.py:judging", "cache": False}, False, False),
        ({"use": "d.py:Search"}, False, False),
        ({"use": "d.py:Search", "pattern": "a"}, True, True),
    ],
    ids=str,
)
def test_where_a_grader_runs_and_whether_it_is_cached(folder, spec, runs_in_worker, is_cached):
    (folder / "d.py").write_text(DECLARING)
    grader = load_grader("g", spec)
    assert (grader.runs_in_worker, grader.is_cached) == (runs_in_worker, is_cached)


def test_a_function_with_defaults(folder):
    grader = load_grader("short", {"use": "my_graders.py:concise", "weight": 0.2, "timeout_s": 5})
    assert (grader.name, grader.weight, grader.timeout_s, grader.per_group) == ("short", 0.2, 5.0, False)
    assert grader.takes == ("completion",)
    assert (grader.call(completion="abc"), grader.call(completion="abcd")) == (True, False)
    assert grader.use == "my_graders.py:concise"
    assert grader.file == str(folder / "my_graders.py")
    assert grader.sha256 == hashlib.sha256(GRADERS.encode()).hexdigest()


def test_options_fill_a_functions_parameters(folder):
    grader = load_grader("short", {"use": "my_graders.py:concise", "limit": 4})
    assert (grader.weight, grader.timeout_s) == (1.0, 30.0)
    assert grader.call(completion="abcd") is True


def test_options_fill_a_dataclass(folder):
    spec = {"use": str(folder / "my_graders.py") + ":Graded", "scale": 2, "kind": "b", "names": ["x"]}
    grader = load_grader("g", spec)
    assert grader.call(completion="") == 2.0
    assert grader.call.__self__.names == ("x",)


@pytest.mark.parametrize("use", ["longest", "Ranked"])
def test_graders_of_groups_are_recognised(folder, use):
    grader = load_grader("g", {"use": f"my_graders.py:{use}"})
    assert (grader.per_group, grader.takes) == (True, ("completions",))


def test_any_callable_will_do(folder):
    assert load_grader("g", {"use": "my_graders.py:bound"}).call(completion="ab") is False
    assert load_grader("g", {"use": "my_graders.py:bound", "limit": 2}).call(completion="ab") is True


def test_types_known_to_type_checkers_only_do_no_harm(folder):
    assert load_grader("g", {"use": "my_graders.py:typed", "limit": 4}).takes == ("completion", "task")


def test_a_changed_file_is_imported_again(folder):
    path = folder / "one.py"
    path.write_text("def f(): return 1\n")
    first = load_grader("g", {"use": "one.py:f"})
    again = load_grader("g", {"use": "one.py:f"})
    path.write_text("def f(): return 2\n")
    second = load_grader("g", {"use": "one.py:f"})
    assert (first.call(), again.call(), second.call()) == (1, 1, 2)
    assert first.call.func is again.call.func
    assert first.sha256 != second.sha256


def test_a_file_does_not_hide_libraries_and_adds_its_folder_only(folder):
    before = list(sys.path)
    load_grader("g", {"use": "my_graders.py:concise"})
    assert [*before, str(folder)] == sys.path


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_built_in_grader_is_there(name):
    grader = find_target(name).object
    assert callable(grader.grade)
    assert grader.__dataclass_params__.frozen
    # What it lacks, if anything, are options; none of them has the name of a key that rft reads.
    found = grader_problems("g", {"use": name})
    assert not [problem for problem in found if ".use:" in problem or "rename it" in problem]


@pytest.mark.parametrize(
    ("spec", "problems"),
    [
        ({}, ["graders.g.use: missing; name one of "]),
        ("exact", ["graders.g: 'exact' is not a mapping"]),
        ({"use": 3}, ["graders.g.use: missing"]),
        ({"use": "numerik"}, ["graders.g.use: there is no grader 'numerik' (did you mean 'numeric'?); the built-in"]),
        ({"use": "zzz"}, ["graders.g.use: there is no grader 'zzz'; the built-in ones are "]),
        ({"use": "nowhere.py:f"}, ["graders.g.use: the file nowhere.py does not exist (working dir"]),
        ({"use": "no_such.graders:f"}, ["graders.g.use: there is no module 'no_such'; is its package installed?"]),
        ({"use": "graders.exact:exact"}, ["exact.py has no 'exact' (did you mean 'Exact'?); it has: Exact"]),
        ({"use": "my_graders.py"}, ["graders.g.use: there is no grader 'my_graders.py'; name the grader in it, as my"]),
        ({"use": "my_graders.py:concize"}, ["my_graders.py has no 'concize' (did you mean 'concise'?); it has: con"]),
        (
            {"use": "my_graders.py:Loose"},
            ["that is a class, and its instances cannot be called; wrap it in a function"],
        ),
        ({"use": "my_graders.py:Gradeless"}, ["that is a class; a grader is a function, or a dataclass with a"]),
        ({"use": "my_graders.py:ready"}, ["graders.g.use: that is of type Graded; a grader is a function, or a"]),
        ({"use": "my_graders.py:LIMIT"}, ["graders.g.use: that is of type int; a grader is a function, or a da"]),
        (
            {"use": "my_graders.py:foreign"},
            [
                "graders.g.style: the parameters prompts, answers fit no style. rft passes completion, task, rollout "
                "by name; give every other parameter a default, or a value in the entry. If another system calls the "
                "function, add its style to the entry, for example `style: trl`; the styles are rft, trl, ",
            ],
        ),
        ({"use": "my_graders.py:native"}, ["graders.g.use: its parameters cannot be read (no signature found"]),
        ({"use": "numeric", "tolerance": -1}, ["graders.g: tolerance and relative_tolerance must be at least 0"]),
        ({"use": "numeric", "tolerance": float("nan")}, ["graders.g: tolerance and relative_tolerance must be at"]),
        (
            {"use": "my_graders.py:at_least"},
            ["graders.g.limit: missing; the grader has no default for it, and rft passes only completion, task, rol"],
        ),
        ({"use": "my_graders.py:at_least", "limit": "x"}, ["graders.g.limit: 'x' is not of type int"]),
        (
            {"use": "my_graders.py:clashing"},
            ["graders.g.retries: the grader's option has the name of a key that rft r"],
        ),
        ({"use": "exact", "retries": -1}, ["graders.g.retries: -1 is not a number of retries, 0 or more"]),
        ({"use": "exact", "retries": True}, ["graders.g.retries: True is not a number of retries, 0 or more"]),
        (
            {"use": "exact", "max_concurrency": 0},
            ["graders.g.max_concurrency: 0 is not a number of calls at a time, 1"],
        ),
        ({"use": "exact", "range": [1, 0]}, ["graders.g.range: [1, 0] is not a lowest and a highest score, as [0, 1]"]),
        ({"use": "exact", "range": 1}, ["graders.g.range: 1 is not a lowest and a highest score"]),
        ({"use": "exact", "range": [0, float("inf")]}, ["graders.g.range: [0, inf] is not a lowest and a highest"]),
        ({"use": "exact", "clip": 1}, ["graders.g.clip: 1 is not true or false"]),
        ({"use": "exact", "clip": True}, ["graders.g.clip: without a range there is no limit to clip to"]),
        ({"use": "exact", "cache": "yes"}, ["graders.g.cache: 'yes' is not true, false or null"]),
        ({"use": "my_graders.py:concise", "style": "trl"}, ["graders.g.style: style 'trl' calls f(prompts, co"]),
        ({"openai": 3}, ["graders.g.openai: 3 is neither a grader.json nor the content of"]),
        (
            {"openai": "nowhere.json", "use": "exact", "limit": 2},
            [
                "graders.g.use: openai already defines the grader",
                "graders.g.limit: openai already defines the grader",
                "graders.g.openai: ",
            ],
        ),
        (
            {"use": "my_graders.py:concise", "limit": 3, "weight": 1, "more": {1}},
            ["graders.g.more: the grader has no su"],
        ),
        (
            {"use": "my_graders.py:anything", "what": {1}},
            ["graders.g: JSON cannot hold the entry: "],
        ),
        (
            {"use": "my_graders.py:concise", "limit": "x"},
            ["graders.g.limit: 'x' is not of type int: should be a whole number"],
        ),
        ({"use": "my_graders.py:Graded", "scale": -1}, ["graders.g: scale=-1.0 must be at least 0"]),
        ({"use": "my_graders.py:Graded", "scale": 1, "kind": "c"}, ["graders.g.kind: 'c' is not of type Literal"]),
        ({"use": "pattern", "pattern": "("}, ["graders.g.pattern: '(' is not of type re.Pattern[str]: should be"]),
        ({"use": "pattern", "pattern": "a", "column": "b"}, ["graders.g: the pattern 'a' captures nothing to compare"]),
        ({"use": "length", "free_tokens": 9, "max_tokens": 9}, ["graders.g: free_tokens=9 must be at least 0 and le"]),
        ({"use": "exact", "weight": "heavy"}, ["graders.g.weight: 'heavy' is not a finite number"]),
        ({"use": "exact", "weight": float("nan")}, ["graders.g.weight: nan is not a finite number"]),
        ({"use": "exact", "weight": True}, ["graders.g.weight: True is not a finite number"]),
        ({"use": "exact", "timeout_s": 0}, ["graders.g.timeout_s: 0 is not a number of seconds above 0"]),
        ({"use": "exact", "timeout_s": None}, ["graders.g.timeout_s: None is not a number of seconds above 0"]),
        (
            {"use": "numeric", "weight": None, "timeout_s": -1, "tolerence": 1, "column": 3, "pattern": "["},
            [
                "graders.g.weight: None is not a finite number",
                "graders.g.timeout_s: -1 is not",
                "graders.g.tolerence: the grader has no such option (did you mean 'tolerance'?); its options are col",
                "graders.g.column: 3 is not of type str: should be a text",
                "graders.g.pattern: '[' is not of type",
            ],
        ),
    ],
)
def test_problems_are_found_all_at_once(folder, spec, problems):
    found = grader_problems("g", spec)
    assert len(found) == len(problems)
    for message, part in zip(found, problems, strict=True):
        assert part in message
        assert message.startswith("graders.g")
    with pytest.raises(ConfigError) as caught:
        load_grader("g", spec)
    assert list(caught.value.problems) == found


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("x = 1\ndef f(:\n", "broken.py:2: syntax error: "),
        ("import no_such_module\n", "importing it failed: ModuleNotFoundError: No module named 'no_such_module'"),
        ("x = 1\n\nx / 0\n", "importing it failed: ZeroDivisionError: division by zero (broken.py:3)"),
        ("raise KeyboardInterrupt\n", "importing it failed: KeyboardInterrupt (broken.py:1)"),
        ("raise GeneratorExit('x')\n", "importing it failed: GeneratorExit: x (broken.py:1)"),
        ("import os\nos._exit(0)\n", "it called os._exit(0), which would end rft (broken.py:2)"),
        ("import sys\nsys.exit(3)\n", "importing it failed: it called sys.exit(3) (broken.py:2)"),
    ],
)
def test_a_file_that_cannot_be_imported(folder, source, message):
    (folder / "broken.py").write_text(source)
    (found,) = grader_problems("g", {"use": "broken.py:f"})
    assert found.startswith("graders.g.use: ")
    assert message in found
    assert not [name for name in sys.modules if name.startswith("rft_grader_broken")]


def test_a_grader_that_asks_for_more_than_there_is(folder):
    (folder / "odd.py").write_text("def f(rollouts): return 0\ndef g(completion, /, task): return 0\n")
    (found,) = grader_problems("g", {"use": "odd.py:f"})
    assert "parameter 'rollouts' cannot be filled" in found
    assert "parameter 'completion' cannot be filled" in grader_problems("g", {"use": "odd.py:g"})[0]


def test_options_cannot_take_the_place_of_arguments(folder):
    (found,) = grader_problems("g", {"use": "my_graders.py:typed", "task": 1})
    assert "graders.g.task: the grader has no such option; its options are limit" in found


def test_a_built_in_grader_grades():
    task = Task(id="t", messages=(), item={"answer": "1,000"}, split="train")
    assert load_grader("n", {"use": "numeric"}).call(completion="it is 1000", task=task).value == 1.0


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        (
            {"use": "exact", "wieght": 2},
            ".wieght: the grader has no such option (did you mean 'weight'?); its options are ",
        ),
        ({"use": "exact", "timeout": 2}, ".timeout: the grader has no such option (did you mean 'timeout_s'?); "),
        ({"use": "numeric", "tolerence": 2}, ".tolerence: the grader has no such option (did you mean 'tolerance'?); "),
        ({"us": "exact"}, ".use: missing; is us meant as use?; name one of abstains, "),
    ],
)
def test_a_key_that_is_nearly_right(spec: dict[str, object], problem: str) -> None:
    (found,) = grader_problems("correct", spec)
    assert found.startswith(f"graders.correct{problem}")
