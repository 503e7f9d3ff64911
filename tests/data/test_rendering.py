"""Rendering with a real, tiny tokenizer, and prompts that are too long."""

import threading
from dataclasses import replace

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from rft.data import rendering
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


def words() -> Tokenizer:
    """A token for each word."""
    core = Tokenizer(models.WordLevel(VOCABULARY, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    return core


@pytest.fixture(scope="module")
def renderer() -> Renderer:
    return Renderer(PreTrainedTokenizerFast(tokenizer_object=words(), unk_token="[UNK]", chat_template=TEMPLATE))


def task(content: str, *, role: str = "user", task_id: str = "t", **item: object) -> Task:
    return Task(id=task_id, messages=({"role": role, "content": content},), item=item, split=Split.TRAIN)


def placed(content: str, line: int, *, role: str = "user") -> Task:
    return replace(task(content, role=role), where=f"tasks.jsonl:{line}")


def test_render(renderer: Renderer) -> None:
    chat = ({"role": "system", "content": "b"}, {"role": "user", "content": "a a"})
    ids = renderer.render(Task(id="t", messages=chat, item={"answer": "b"}, split=Split.TRAIN))
    assert ids == (2, 5, 1, 4, 4, 3)


def test_the_template_sees_the_tools(renderer: Renderer) -> None:
    tool = {"type": "function", "function": {"name": "add", "parameters": {}}}
    assert renderer.render(task("a", tools=[tool])) == (6, 0, 1, 4, 3)


def test_variables_reach_the_template() -> None:
    template = "{% if enable_thinking is defined and not enable_thinking %}b {% endif %}" + TEMPLATE
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words(), unk_token="[UNK]", chat_template=template)
    assert Renderer(tokenizer).render(task("a")) == (1, 4, 3)
    assert Renderer(tokenizer, variables={"enable_thinking": True}).render(task("a")) == (1, 4, 3)
    assert Renderer(tokenizer, variables={"enable_thinking": False}).render(task("a")) == (5, 1, 4, 3)
    with pytest.raises(DataError) as caught:
        Renderer(tokenizer, variables={"enable_thinkin": False})
    assert caught.value.problems == (
        "model.chat_template_kwargs.enable_thinkin=False: the chat template does not use this variable; remove it",
    )


def test_a_refusal_of_the_template_names_the_task(renderer: Renderer) -> None:
    with pytest.raises(DataError) as caught:
        renderer.render(task("a", role="tool", task_id="17"))
    assert caught.value.problems == (
        "task 17: the model's chat template refuses the chat (tool): no tools here; change the messages, or set "
        "another template with model.chat_template=<file.jinja>",
    )


def test_what_fits_is_kept(renderer: Renderer) -> None:
    tasks = [task("a"), task("a b a")]  # 3 and 5 tokens with `user` and `assistant`
    fitting = fit_context(tasks, renderer, context_tokens=9, max_completion_tokens=4, on_long="error")
    assert fitting == (tasks, 0, 5)


def test_long_prompts_are_refused(renderer: Renderer) -> None:
    tasks = [task("a"), placed("a b", 7), placed("a b a", 9)]
    with pytest.raises(DataError) as caught:
        fit_context(tasks, renderer, context_tokens=7, max_completion_tokens=4, on_long="error")
    assert caught.value.problems == (
        "2 of 3 prompts are longer than 3 = 7 of context - sampler.max_completion_tokens=4 tokens; the first is "
        "tasks.jsonl:7, the longest tasks.jsonl:9 with 5 tokens; lower sampler.max_completion_tokens, or drop them "
        "with data.long_prompts=drop",
    )


def test_long_prompts_are_dropped_on_demand(renderer: Renderer) -> None:
    tasks = [task("a b a"), task("a"), task("a b")]
    fitting = fit_context(tasks, renderer, context_tokens=8, max_completion_tokens=4, on_long="drop")
    assert fitting == (tasks[1:], 1, 4)


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


def refusals(renderer: Renderer, tasks: list[Task]) -> tuple[str, ...]:
    with pytest.raises(DataError) as caught:
        fit_context(tasks, renderer, context_tokens=9, max_completion_tokens=4, on_long="drop")
    return caught.value.problems


def test_all_refusals_come_at_once_each_reason_in_a_line(renderer: Renderer) -> None:
    rows = [task("a"), *(placed("a", line, role="tool") for line in range(2, 24)), placed("b", 30, role="system")]
    (problem,) = refusals(renderer, rows)
    assert problem.startswith(
        "22 rows, first at tasks.jsonl:2: the model's chat template refuses the chat (tool): no tools here; change"
    )


def test_a_template_that_is_none_is_told_once() -> None:
    broken = PreTrainedTokenizerFast(tokenizer_object=words(), unk_token="[UNK]", chat_template="a\n{% for x in %}")
    assert refusals(Renderer(broken), [task("a"), task("b")]) == (
        "the model's chat template cannot be parsed: line 2: Expected an expression, got 'end of statement block'; "
        "set another template with model.chat_template=<file.jinja>",
    )


class Held:
    """A tokenizer whose template ends when it is released."""

    def __init__(self) -> None:
        self.release = threading.Event()

    def apply_chat_template(self, conversation: object, **_: object) -> list[int]:
        self.release.wait()
        return [1]


def test_a_template_that_does_not_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendering, "PROMPT_DEADLINE_S", 0.0)
    held = Held()
    try:
        (problem,) = refusals(Renderer(held), [placed("a", 3)])
    finally:
        held.release.set()
    assert problem.startswith("tasks.jsonl:3: the model's chat template did not terminate within 0 s; set another")


def test_what_takes_long_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendering, "TELL_EVERY_S", 0.001)
    held = Held()
    told: list[tuple[int, int]] = []

    def tell(done: int, total: int) -> None:
        told.append((done, total))
        held.release.set()

    tasks = [task("a"), task("b")]
    assert (
        fit_context(tasks, Renderer(held), context_tokens=9, max_completion_tokens=4, on_long="drop", tell=tell).kept
        == tasks
    )
    assert told[0] == (0, 2)


def test_no_tasks_always_fit(renderer: Renderer) -> None:
    assert fit_context([], renderer, context_tokens=9, max_completion_tokens=4, on_long="error").kept == []
