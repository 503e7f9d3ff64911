"""An episode behind the endpoint, with a policy that follows a script, and OpenAI's client in the same process."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from rft.data.continuation import Continuation
from rft.data.rendering import Renderer
from rft.data.tool_calls import MarkedParser
from rft.episodes.conversation import Conversation, Rules, Tools
from rft.episodes.endpoint.app import create_app
from rft.episodes.endpoint.session import Session
from rft.models.base_model import load_tokenizer
from rft.sampling.engine import Request
from rft.types import Policy, Rollout, Split, StopReason, Task

POLICY = Policy(version=3, fingerprint="9b2e51c07d44a1f0")
END = 2
MAX_TURN = 24
TEMPLATE = """
{%- for tool in tools or [] %}{{ '<|system|>' + tool.function.name + '<|end|>' }}{% endfor %}
{%- for message in messages %}
    {{- '<|user|>result ' if message.role == 'tool' else '<|' + message.role + '|>' }}{{ message.content }}
    {%- for call in message.tool_calls or [] %}
        {{- '<call>' + call.function.name + '(' + call.function.arguments | tojson + ')</call>' }}
    {%- endfor %}{{ '<|end|>' }}
{%- endfor %}{{ '<|assistant|>' if add_generation_prompt }}"""
"""A chat template with tools for the embedded model."""


class ScriptedPolicy:
    """Samples these turns; keeps the requests. A turn that is too long is cut, and one of `...` never comes."""

    def __init__(self, tokenizer: Any, turns: Sequence[str | Exception], max_tokens: int) -> None:
        self.tokenizer = tokenizer
        self.turns = list(turns)
        self.max_tokens = max_tokens
        self.requests: list[Request] = []
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def __call__(self, request: Request) -> Rollout:
        self.requests.append(request)
        turn = self.turns[len(self.requests) - 1]
        await self.may_answer.wait()
        if isinstance(turn, Exception):
            raise turn
        ids = [*self.tokenizer.encode(turn, add_special_tokens=False), END]
        kept = ids[: self.max_tokens]
        return Rollout(
            task_id=request.task_id,
            index=request.index,
            prompt_ids=request.prompt_ids,
            completion_ids=tuple(kept),
            logprobs=tuple(-0.5 for _ in kept),
            text=turn[: self.max_tokens],
            stop=StopReason.STOP if len(kept) == len(ids) else StopReason.LENGTH,
            policy=POLICY,
        )


class Episode:
    """One episode, its policy, and a client of it."""

    def __init__(self, tokenizer: Any, turns: Sequence[str | Exception], **limits: int) -> None:
        renderer = Renderer(tokenizer)
        rules: dict[str, Any] = {"max_turns": 4, "max_completion_tokens": MAX_TURN, "context_tokens": 400} | limits
        self.policy = ScriptedPolicy(tokenizer, turns, rules["max_completion_tokens"])
        rules["tools"] = Tools(parser=MarkedParser(tokenizer, "<call>", "</call>"), tokenizer=tokenizer)
        self.conversation = Conversation(
            Task(id="t", messages=({"role": "user", "content": "not used"},), item={}, split=Split.TRAIN),
            5,
            seed_parts=(0, "train", 1, "t", 2),
            rules=Rules(renderer=renderer, continuation=Continuation(renderer, {END}), **rules),
            sample=self.policy,
        )
        self.session = Session(self.conversation, "http://rft/e/0", tokenizer)
        self.other = Session(self.conversation, "http://rft/e/1", tokenizer)
        self.app = create_app({"0": self.session, "1": self.other})

    def client(self, **options: Any) -> openai.AsyncOpenAI:
        """OpenAI's client, as an agent makes it."""
        given = {"base_url": self.session.base_url, "api_key": self.session.api_key, "max_retries": 0} | options
        return openai.AsyncOpenAI(http_client=httpx.AsyncClient(transport=httpx.ASGITransport(self.app)), **given)

    async def ask(self, *messages: Any, **options: Any) -> Any:
        """Ask for a turn; a text is a user's message."""
        chat = [{"role": "user", "content": each} if isinstance(each, str) else each for each in messages]
        retries = options.pop("retries", 0)
        headers = {"x-stainless-retry-count": str(retries)}
        given: dict[str, Any] = {"model": "any", "messages": chat, "extra_headers": headers} | options
        return await self.client().chat.completions.create(**given)


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Path) -> Any:
    tokenizer = load_tokenizer(tiny_model, None)
    tokenizer.chat_template = TEMPLATE
    return tokenizer


@pytest.fixture
def play(tokenizer: Any) -> Callable[..., Any]:
    """`play(agent, "16", "8")`: what an agent returns that gets an episode with these turns."""

    def run(agent: Callable[[Episode], Awaitable[Any]], *turns: str | Exception, **limits: int) -> Any:
        async def main() -> Any:
            return await agent(Episode(tokenizer, turns, **limits))

        main_of: Coroutine[Any, Any, Any] = main()
        return asyncio.run(main_of)

    return run


def says(text: str) -> dict[str, str]:
    """A message of the assistant."""
    return {"role": "assistant", "content": text}
