"""Settings of tools that cannot work are refused before anything starts."""

from __future__ import annotations

import pytest

from rft.config.commands import load_training
from rft.errors import ConfigError

BASE = ("experiment=quickstart",)
USE = "environment.use=my_env.py:guess"
ADD = "tools.add.use=my_tools.py:add"


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ((USE, ADD), "environment.use=my_env.py:guess: tools are an environment of their own"),
        (("tools.add.timeout_s=3",), "tools.add: names no tool; set use=my_tools.py:function, or mcp to the URL"),
        ((ADD, "learner=sft"), "tools: add: learner=sft does not learn from episodes"),
        ((ADD, "data.format=raw"), "data.format=raw: shows the model no tools"),
        ((ADD, "environment.options={a: 1}"), "environment.options: has no effect without environment.use"),
        ((f"tools.{'a' * 65}.use=x.py:y",), "should have names of letters, digits, _ and -, not 'aaa"),
        (
            ("tools.use=my_tools.py:add",),
            "tools.use=my_tools.py:add: an entry of tools has a name, by which the policy calls the tool; write "
            "tools.add.use=my_tools.py:add",
        ),
        (("tools=my_tools.py:add",), "by which the policy calls the tool; write tools.add.use=my_tools.py:add"),
        (("tools.mcp=python server.py",), "calls the tool; write tools.<name>.mcp=python server.py"),
        (
            ("tools.calc=calculator",),
            "tools.calc=calculator: an entry of tools has keys; write tools.calc.use=calculator",
        ),
        (("model.call_open='<call>'",), "model.call_open, model.call_close: give both"),
        (
            ("model.call_open='<call>'", "model.call_close='</call>'", "model.response_template=x.json"),
            "model.call_open: model.response_template is given as well",
        ),
    ],
)
def test_what_is_refused(words: tuple[str, ...], problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_training([*BASE, *words])
    assert any(problem in each for each in caught.value.problems), caught.value.problems


def test_the_score_of_tools_counts_only_if_nothing_else_does() -> None:
    assert load_training([*BASE, ADD]).graders["environment"] == {"use": "environment", "weight": 0.0}
    assert load_training([*BASE, ADD, "~graders.correct"]).graders == {"environment": {"use": "environment"}}
    own = load_training([*BASE, ADD, "graders.environment.use=environment", "graders.environment.weight=0.5"])
    assert own.graders["environment"]["weight"] == 0.5
