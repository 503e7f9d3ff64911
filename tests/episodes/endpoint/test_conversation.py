"""What OpenAI's client gets, and what the episode records."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest

from rft.errors import SampleError
from rft.types import Score, StopReason

from .conftest import END, MAX_TURN, POLICY, Episode, says


def test_two_turns(play: Any, tokenizer: Any) -> None:
    async def agent(episode: Episode) -> None:
        first = await episode.ask("1 + 1")
        assert (first.choices[0].message.content, first.choices[0].finish_reason) == ("16", "stop")
        assert (first.model, first.usage.completion_tokens) == ("any", 3)
        await episode.ask("1 + 1", says("16"), "higher")
        rollout = episode.conversation.rollout(0, Score(value=1.0), policy=POLICY, filler=END)
        prompt = tokenizer.apply_chat_template([{"role": "user", "content": "1 + 1"}], add_generation_prompt=True)
        given = tokenizer.apply_chat_template(
            [{"role": "user", "content": "higher"}], add_generation_prompt=True, tokenize=False
        )
        between = tokenizer.encode(given, add_special_tokens=False)
        spoken = [[*tokenizer.encode(text, add_special_tokens=False), END] for text in ("16", "8")]
        assert rollout.prompt_ids == tuple(prompt["input_ids"])
        assert rollout.completion_ids == (*spoken[0], *between, *spoken[1])
        assert rollout.trained == tuple([True] * 3 + [False] * len(between) + [True] * 2)

    play(agent, "16", "8")


def test_a_stream_has_the_same_content_and_usage(play: Any) -> None:
    async def agent(episode: Episode) -> None:
        stream = await episode.ask("1 + 1", stream=True, stream_options={"include_usage": True})
        chunks = [chunk async for chunk in stream]
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "16"
        assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices] == [None, None, "stop"]
        assert chunks[-1].choices == [] and chunks[-1].usage.completion_tokens == 3
        assert len(episode.policy.requests) == 1

    play(agent, "16")


def test_token_ids_and_logprobs_on_request(play: Any) -> None:
    async def agent(episode: Episode) -> None:
        reply = await episode.ask("1 + 1", logprobs=True, extra_body={"return_token_ids": True})
        transcript = episode.conversation.transcript
        assert transcript is not None
        assert reply.prompt_token_ids == list(transcript.prompt_ids)
        assert reply.choices[0].token_ids == list(transcript.ids[len(transcript.prompt_ids) :])
        tokens = reply.choices[0].logprobs.content
        assert [(each.token, each.logprob) for each in tokens] == [("1", -0.5), ("6", -0.5), ("", -0.5)]

    play(agent, "16")


def test_what_counts_as_the_same_message(play: Any) -> None:
    """Parts of text, absent and empty fields, and white space around the assistant's text."""

    async def agent(episode: Episode) -> None:
        await episode.ask({"role": "user", "content": [{"type": "text", "text": "1 + 1"}]})
        again = {"role": "assistant", "content": "16", "refusal": None, "annotations": [], "audio": None}
        await episode.ask("1 + 1", again, "higher")
        assert episode.session.counts == {"turns": 2}

    play(agent, " 16\n", "8")


def test_max_tokens_only_lowers_the_limit(play: Any) -> None:
    async def agent(episode: Episode) -> None:
        high = await episode.ask("1 + 1", max_tokens=500)
        assert (high.choices[0].message.content, high.choices[0].finish_reason) == ("16", "stop")
        low = await episode.ask("1 + 1", says("16"), "higher", max_completion_tokens=3)
        assert (low.choices[0].message.content, low.choices[0].finish_reason) == ("123", "length")
        rollout = episode.conversation.rollout(0, Score(value=1.0), policy=POLICY, filler=END)
        assert (rollout.text, rollout.stop) == ("123", StopReason.LENGTH)

    play(agent, "16", "12345")


def test_a_text_of_stop_ends_the_turn_before_it(play: Any, tokenizer: Any) -> None:
    async def agent(episode: Episode) -> None:
        reply = await episode.ask("1 + 1", stop=["</a>", "</b>"])
        assert (reply.choices[0].message.content, reply.choices[0].finish_reason) == ("<a>16", "stop")
        # The agent closes the tag, and writes on in the policy's turn, which has no end token yet.
        await episode.ask("1 + 1", says("<a>16</a>\nran 16"), "17", stop=["</a>"])
        rollout = episode.conversation.rollout(0, Score(value=1.0), policy=POLICY, filler=END)
        text = tokenizer.decode(rollout.completion_ids)
        given = tokenizer.apply_chat_template(
            [{"role": "user", "content": "17"}], add_generation_prompt=True, tokenize=False
        )
        assert text == f"<a>16</a>\nran 16<|end|>{given}8<|end|>"
        sampled = [token for token, trained in zip(rollout.completion_ids, rollout.trained, strict=True) if trained]
        assert tokenizer.decode(sampled) == "<a>16</a>8<|end|>"
        # The next request repeats what the agent has written.
        await episode.ask("1 + 1", says("<a>16</a>\nran 16"), "17", says("8"), "go on")
        assert episode.session.counts == {"turns": 3}

    play(agent, "<a>16</a> and so on", "8", "9")


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"n": 2}, "n=2: would change what the policy samples.*ask once for each reply"),
        ({"response_format": {"type": "json_object"}}, "response_format="),
        ({"logit_bias": {"5": 1}}, "logit_bias="),
        ({"tool_choice": "required", "tools": []}, "tool_choice='required'"),
        ({"extra_body": {"guided_regex": "a"}}, "guided_regex: not supported"),
        ({"max_tokens": 0}, "max_tokens: must be a whole number from 1, not 0"),
        ({"stop": [""]}, "stop: must be a text"),
        ({"messages": []}, '"messages" is empty'),
        ({"messages": [says("hi")]}, "ends with the assistant's message"),
        ({"tools": [{"type": "web_search"}]}, "tools: must be a list"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "images, audio and other media"),
    ],
)
def test_what_is_refused(play: Any, options: dict[str, Any], problem: str) -> None:
    async def agent(episode: Episode) -> None:
        with pytest.raises(openai.BadRequestError, match=problem):
            await episode.ask("1 + 1", **options)
        assert episode.policy.requests == [] and not episode.session.fork

    play(agent)


def test_parameters_without_effect_are_counted(play: Any) -> None:
    async def agent(episode: Episode) -> None:
        await episode.ask(
            "1 + 1", temperature=0.2, top_p=0.9, n=1, tool_choice="auto", response_format={"type": "text"}
        )
        assert episode.session.counts == {"turns": 1, "ignored temperature": 1, "ignored top_p": 1}

    play(agent, "16")


def test_limits(play: Any) -> None:
    async def agent(episode: Episode) -> None:
        await episode.ask("1 + 1")
        for messages in (("1 + 1", says("16"), "higher"), ("anything",)):
            with pytest.raises(openai.BadRequestError, match=r"environment\.max_turns=1") as caught:
                await episode.ask(*messages)
            assert caught.value.code == "limit"
        assert episode.conversation.stop is StopReason.TURNS

    play(agent, "16", max_turns=1)


def test_a_turn_that_was_cut_is_the_last_one(play: Any) -> None:
    async def agent(episode: Episode) -> None:
        reply = await episode.ask("1 + 1")
        assert reply.choices[0].finish_reason == "length"
        with pytest.raises(openai.BadRequestError, match="cut at") as caught:
            await episode.ask("1 + 1", says("x" * MAX_TURN), "go on")
        assert caught.value.code == "limit"

    play(agent, "x" * 100)


def test_the_reward(play: Any) -> None:
    async def agent(episode: Episode) -> None:
        client = episode.client()
        for reward, value in ((True, 1.0), (0.25, 0.25)):
            await client.post(episode.session.reward_url, cast_to=object, body={"reward": reward})
            assert episode.session.posted is not None and episode.session.posted.value == value
        for body in ({"reward": None}, {"reward": "much"}, {"score": 1}, [1], {"turn_reward": 1}):
            with pytest.raises(
                openai.BadRequestError, match=r"must be (a finite number|\{)|needs a turn of the policy"
            ):
                await client.post(episode.session.reward_url, cast_to=object, body=body)
        await episode.ask("1 + 1")
        for reward in (0.25, 0.5):
            await client.post(episode.session.reward_url, cast_to=object, body={"turn_reward": reward})
        assert episode.session.rewarded == 0.75

    play(agent, "16")


def test_the_models(play: Any) -> None:
    async def agent(episode: Episode) -> None:
        assert [model.id async for model in episode.client().models.list()] == ["policy"]

    play(agent)


def test_keys(play: Any) -> None:
    async def agent(episode: Episode) -> None:
        for key, error in ((episode.other.api_key, "another episode"), ("wrong", "send the key of the episode")):
            with pytest.raises((openai.PermissionDeniedError, openai.AuthenticationError), match=error):
                await episode.client(api_key=key).models.list()

    play(agent)


def test_after_the_end(play: Any) -> None:
    async def agent(episode: Episode) -> None:
        await episode.ask("1 + 1")
        episode.session.end()
        with pytest.raises(openai.APIStatusError) as caught:
            await episode.ask("1 + 1", says("16"), "higher")
        assert caught.value.status_code == 410
        with pytest.raises(openai.APIStatusError) as caught:
            await episode.client().post(episode.session.reward_url, cast_to=object, body={"reward": 1})
        assert caught.value.status_code == 410

    play(agent, "16", "8")


def test_a_sampler_that_fails_ends_the_step(play: Any) -> None:
    async def agent(episode: Episode) -> None:
        with pytest.raises(openai.InternalServerError, match="the engine is gone"):
            await episode.ask("1 + 1")
        with pytest.raises(SampleError, match="the engine is gone"):
            episode.session.failed.result()

    play(agent, SampleError("the engine is gone"))


def test_bodies_that_are_no_json(play: Any) -> None:
    async def agent(episode: Episode) -> None:
        import httpx

        transport = httpx.ASGITransport(episode.app)
        async with httpx.AsyncClient(transport=transport) as client:
            reply = await client.post(
                f"{episode.session.base_url}/chat/completions",
                content=b"{",
                headers={"Authorization": f"Bearer {episode.session.api_key}"},
            )
        assert reply.status_code == 400 and "no JSON" in json.loads(reply.text)["error"]["message"]

    play(agent)
