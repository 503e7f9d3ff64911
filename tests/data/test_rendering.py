"""Rendering with a real, tiny tokenizer, and prompts that are too long."""

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from rft.data.rendering import Renderer, fit_context
from rft.errors import DataError
from rft.types import Split, Task

VOCABULARY = {"[UNK]": 0, "user": 1, "system": 2, "assistant": 3, "a": 4, "b": 5, "tools": 6}
TEMPLATE = (
    "{% if tools %}tools {{ tools | length }} {% endif %}"
    "{% for message in messages %}"
    "{% if message.role == 'tool' %}{{ raise_exception('no tools here') }}{% endif %}"
    "{{ message.role }} {{ message.content }} "
    "{% endfor %}"
    "{% if add_generation_prompt %}assistant{% endif %}"
)


@pytest.fixture(scope="module")
def renderer() -> Renderer:
    words = Tokenizer(models.WordLevel(VOCABULARY, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    return Renderer(PreTrainedTokenizerFast(tokenizer_object=words, unk_token="[UNK]", chat_template=TEMPLATE))


def task(content: str, *, role: str = "user", task_id: str = "t", **item: object) -> Task:
    return Task(id=task_id, messages=({"role": role, "content": content},), item=item, split=Split.TRAIN)


def test_render(renderer: Renderer) -> None:
    chat = ({"role": "system", "content": "b"}, {"role": "user", "content": "a a"})
    ids = renderer.render(Task(id="t", messages=chat, item={"answer": "b"}, split=Split.TRAIN))
    assert ids == (2, 5, 1, 4, 4, 3)


def test_the_template_sees_the_tools(renderer: Renderer) -> None:
    tool = {"type": "function", "function": {"name": "add", "parameters": {}}}
    assert renderer.render(task("a", tools=[tool])) == (6, 0, 1, 4, 3)


def test_a_refusal_of_the_template_names_the_task(renderer: Renderer) -> None:
    with pytest.raises(DataError) as caught:
        renderer.render(task("a", role="tool", task_id="17"))
    assert "task 17 (tool): the model's chat template refuses it: no tools here; change" in str(caught.value)
    assert "model.chat_template=<file.jinja>" in str(caught.value)


def test_what_fits_is_kept(renderer: Renderer) -> None:
    tasks = [task("a"), task("a b a")]  # 3 and 5 tokens with `user` and `assistant`
    kept, num_dropped = fit_context(tasks, renderer, context_tokens=9, max_completion_tokens=4, on_long="error")
    assert (kept, num_dropped) == (tasks, 0)


def test_long_prompts_are_refused(renderer: Renderer) -> None:
    tasks = [task("a"), task("a b a", task_id="long"), task("a b")]
    with pytest.raises(DataError) as caught:
        fit_context(tasks, renderer, context_tokens=7, max_completion_tokens=4, on_long="error")
    assert caught.value.problems == (
        "2 of 3 prompts are longer than 3 = 7 of context - sampler.max_completion_tokens=4 tokens; the longest is task "
        "long with 5 tokens; lower sampler.max_completion_tokens, or leave them out with data.long_prompts=drop",
    )


def test_long_prompts_are_dropped_on_demand(renderer: Renderer) -> None:
    tasks = [task("a b a"), task("a"), task("a b")]
    kept, num_dropped = fit_context(tasks, renderer, context_tokens=8, max_completion_tokens=4, on_long="drop")
    assert (kept, num_dropped) == (tasks[1:], 1)


@pytest.mark.parametrize(
    ("context_tokens", "problem"),
    [
        (6, "1 of 1 prompts are longer than 2 = 6 of context"),
        (4, "no room for a prompt: 0 = 4 of context - sampler.max_completion_tokens=4 tokens"),
    ],
)
def test_something_must_be_left(renderer: Renderer, context_tokens: int, problem: str) -> None:
    with pytest.raises(DataError) as caught:
        fit_context([task("a")], renderer, context_tokens=context_tokens, max_completion_tokens=4, on_long="drop")
    assert problem in str(caught.value)
    assert "long_prompts" not in str(caught.value)


def test_all_refusals_come_at_once(renderer: Renderer) -> None:
    tasks = [task("a", role="tool", task_id=str(number)) for number in range(22)]
    with pytest.raises(DataError) as caught:
        fit_context([task("a"), *tasks], renderer, context_tokens=9, max_completion_tokens=4, on_long="drop")
    assert len(caught.value.problems) == 21
    assert caught.value.problems[20] == "and 2 more"


def test_no_tasks_always_fit(renderer: Renderer) -> None:
    assert fit_context([], renderer, context_tokens=9, max_completion_tokens=4, on_long="error").kept == []
