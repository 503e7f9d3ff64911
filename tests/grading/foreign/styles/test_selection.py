"""The style of a function without `style` in its entry: declared, the only one that fits, or asked for."""

import functools
import re
import sys
import types

import pytest

from rft.grading import per_group
from rft.grading.foreign.styles import STYLES, select_style

MODULE = "a_module_of_the_test"


def function(signature):
    """A function with the given parameters; only the tests' own texts come here."""
    names = {"__name__": MODULE}
    exec(f"from __future__ import annotations\ndef f({signature}):\n    return 0.0", names)
    return names["f"]


@pytest.fixture
def declare(tmp_path, monkeypatch):
    """Give the functions of a test a file with an import."""

    def write(statement):
        file = tmp_path / "theirs.py"
        file.write_text(f"if False:\n    {statement}\n")
        monkeypatch.setitem(sys.modules, MODULE, types.SimpleNamespace(__file__=str(file)))

    return write


def candidates(signature):
    """The styles that the refusal lists."""
    with pytest.raises(ValueError, match=r"fit \d styles; add one line to the entry: ") as caught:
        select_style(function(signature))
    return re.findall("`style: ([a-z_0-9]+)`", str(caught.value))


@pytest.mark.parametrize(
    ("signature", "style"),
    [
        ("completion", "rft"),
        ("completion, task", "rft"),
        ("completion, task, rollout, limit=3", "rft"),
        ("completion, limit", "rft"),  # the entry lacks a value, which the loader reports
        ("completion: str, answer=4", "rft"),  # verifiers passes messages
        ("task", "rft"),
        ("", "rft"),
        ("completion='', limit=3", "rft"),
        ("completion_ids, **kwargs", "trl"),
        ("completions: list[str], solution, **kwargs", "trl"),
        ("completions: list[list[dict[str, str]]], **kwargs", "trl_chat"),
        ("completions: List[List[Dict[str, str]]], task", "trl_chat"),
        ("solution_str, ground_truth", "verl"),
        ("data_source='', solution_str='', ground_truth='', extra_info=None", "verl"),
        ("data_sources, solution_strs, ground_truths, extra_infos", "verl_batch"),
        ("model_output, ground_truth, timeout_score=0", "verl_pair"),
        ("predict_str, ground_truth, use_boxed=True", "verl_pair"),
        ("prompt, completions, prompt_ids, completion_ids, answer, **kwargs", "areal"),
        ("queries, prompts, labels", "openrlhf"),
        ("state", "verifiers"),
        ("completion: list[dict[str, str]], answer", "verifiers"),
        ("states", "verifiers_group"),
        ("task, trace", "verifiers_v1"),
        ("messages, ground_truth=None, **kwargs", "eval_protocol"),
        ("example, response", "google"),
        ("answer, entry", "reasoning_gym"),
        ("sample, item, strict=True", "openai"),
        ("text, strict=True", "plain"),
    ],
)
def test_a_signature_that_fits_one_style_is_taken(signature, style):
    assert select_style(function(signature)) == style


@pytest.mark.parametrize(
    ("signature", "styles"),
    [
        ("completion, answer", ["rft", "verifiers"]),
        ("completion, answer=None", ["rft", "verifiers"]),
        ("completion, **kwargs", ["rft", "verifiers"]),
        ("prompt: str, completion: str, example: dict", ["rft", "predibase"]),
        ("completions", ["rft", "trl", "trl_chat"]),
        ("completions, task", ["rft", "trl", "trl_chat"]),
        ("prompts, completions, solution, **kwargs", ["trl", "trl_chat"]),
        ("completions, answers", ["trl", "trl_chat", "verifiers_group"]),
        ("completions: list[str]", ["rft", "trl"]),
        ("event, context", ["aws_lambda", "aws_lambda_single"]),
        ("state, target", ["verifiers", "inspect_ai"]),
        ("task=None, solution_str=''", ["rft", "verl"]),
    ],
)
def test_a_signature_that_fits_several_styles_is_refused(signature, styles):
    assert candidates(signature) == styles


@pytest.mark.parametrize(
    ("signature", "statement", "style"),
    [
        ("completion, answer=None", "import verifiers as vf", "verifiers"),
        ("completion, **kwargs", "from verifiers.types import State", "verifiers"),
        ("completions, answers", "import verifiers", "verifiers_group"),
        ("state, target", "from inspect_ai.scorer import Target", "inspect_ai"),
        ("completions: list[str], **kwargs", "import trl", "trl"),
        ("completion, answer=None", "from rft.grading import Score", "rft"),
        ("completion, limit=3", "import trl", "rft"),  # TRL could not call it
        ("sample, item", "import trl", "openai"),
        ("completion, answer=None", "import verifiers_of_mine, rft", "rft"),
    ],
)
def test_an_import_declares_the_style(declare, signature, statement, style):
    declare(statement)
    assert select_style(function(signature)) == style


@pytest.mark.parametrize(
    ("signature", "statement", "styles"),
    [
        ("completions, **kwargs", "from trl import GRPOTrainer", ["trl", "trl_chat"]),
        ("completion, answer=None", "import rft, verifiers", ["rft", "verifiers"]),
        ("completion, task", "import verifiers", ["rft", "verifiers"]),
        ("completion, answer=None", "from .verifiers import State", ["rft", "verifiers"]),
    ],
)
def test_a_declaration_that_leaves_several_styles_is_refused(declare, signature, statement, styles):
    declare(statement)
    assert candidates(signature) == styles


def test_a_class_declares_the_package_of_its_base():
    base = type("Base", (), {"__module__": "inspect_ai.scorer"})
    scorer = type("Scorer", (base,), {"__call__": lambda self, state, target: 0.0})()
    assert select_style(scorer) == "inspect_ai"


@pytest.mark.parametrize("signature", ["item, sample", "answer", "response", "a, b", "strict=True", "**kwargs"])
def test_a_signature_that_fits_no_style_is_refused(signature):
    with pytest.raises(ValueError, match="fit no style") as caught:
        select_style(function(signature))
    assert str(caught.value).endswith(f"the styles are {', '.join(['rft', *STYLES])}")


def test_set_options_and_group_marks_decide():
    assert select_style(functools.partial(function("completion, answer=None"), answer=4)) == "rft"
    assert select_style(functools.partial(per_group(function("completions, limit")), limit=3)) == "rft"


@pytest.mark.parametrize("name", STYLES)
def test_each_style_fits_its_documented_signature(name):
    signature = STYLES[name].signature.partition("(")[2].rpartition(")")[0]
    try:
        assert select_style(function(signature)) == name
    except ValueError:
        assert name in candidates(signature)
