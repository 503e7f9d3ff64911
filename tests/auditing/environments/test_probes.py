"""Each probe on an environment with the fault that it looks for, and on one without faults."""

import asyncio

import pytest

from rft.auditing.environments.episodes import Player, TooSlow
from rft.auditing.environments.examine import examine_environment
from rft.auditing.environments.policies import RANDOM, odd
from rft.auditing.environments.probes import answers, cost, free, leftovers, repeats, texts
from rft.auditing.environments.profile import EnvironmentProfile
from rft.auditing.findings import Result, passed
from rft.auditing.probe import Probe
from rft.config.environment import EnvironmentConfig
from rft.config.tools import ToolConfig
from rft.episodes.attempt import Ending
from rft.episodes.tools.loading import load_tools
from rft.episodes.workers import EnvironmentWorkers
from rft.types import Score, Split, Status, Task

ENVIRONMENTS = """
import asyncio, os, random, socket

async def one_of_many(task, policy, seed):
    return await globals()[task.item["environment"]](task, policy, random.Random(seed))

async def talk(policy, says, turns=3):
    for turn in range(turns):
        said = says(turn)
        reply = await policy([{"role": "user", "content": said}])
    return reply

async def fine(task, policy, chance):
    for turn in range(3):
        reply = await policy(f"a number from 10 to {chance.randint(20, 99)}")
        if not reply.text.strip().isdecimal():
            return 0.0
        policy.reward(0.25 if int(reply.text) == task.item["answer"] else 0.0)

async def raising(task, policy, chance):
    await policy("go on")
    raise KeyError("gone")

async def silent(task, policy, chance):
    return 1.0

async def chance_of_the_process(task, policy, chance):
    await talk(policy, lambda turn: f"dice {random.random()}")

async def hash_of_the_process(task, policy, chance):
    await talk(policy, lambda turn: f"hash {hash(task.id)}")

async def seeded_globally(task, policy, chance):
    random.seed(7)
    await talk(policy, lambda turn: f"dice {random.random()}")

LEFT_OVER = []

async def stained(task, policy, chance):
    LEFT_OVER.append(1)
    await talk(policy, lambda turn: f"{len(LEFT_OVER)} of us")
    LEFT_OVER.pop()

async def telling(task, policy, chance):
    await talk(policy, lambda turn: "start" if not turn else f"it is {task.item['answer']}.")

async def telling_by_an_error(task, policy, chance):
    await policy("start")
    await policy([{"role": "tool", "content": f"Error: {task.item['answer']} != None", "tool_call_id": "1"}])

async def exposing(task, policy, chance):
    variables = os.environ | {"TASK": f"answer={task.item['answer']}"}
    process = await asyncio.create_subprocess_exec("sleep", "30", env=variables)
    try:
        await talk(policy, lambda turn: "run something")
    finally:
        process.kill()
        await process.wait()

async def generous(task, policy, chance):
    await policy("say anything")
    return 1.0

async def easy(task, policy, chance):
    for turn in range(4):
        if (await policy("say 1 or 2 (not 1)")).text == "2":
            return 1.0
    return 0.0

async def converting(task, policy, chance):
    reply = await policy("a number")
    return float(reply.text.isdigit() and int(reply.text) == 3)

async def spelling(task, policy, chance):
    await policy("the end is <|im_end|>")

KEPT = []

async def leaving_a_task(task, policy, chance):
    KEPT.append(asyncio.create_task(asyncio.Event().wait()))
    await policy("go on")

async def leaving_a_socket(task, policy, chance):
    KEPT.append(socket.socketpair())
    await policy("go on")

async def leaving_a_file(task, policy, chance):
    KEPT.append(open(os.devnull))
    await policy("go on")

async def leaving_a_process(task, policy, chance):
    KEPT.append(await asyncio.create_subprocess_exec("sleep", "30"))
    await policy("go on")

async def closing_at_the_end(task, policy, chance):
    opened = socket.socketpair()
    KEPT.append(opened)
    await talk(policy, lambda turn: "go on")
    for each in opened:
        each.close()

async def stubborn(task, policy, chance):
    try:
        await talk(policy, lambda turn: "go on")
    except asyncio.CancelledError:
        await asyncio.Event().wait()
"""
PROBES = {
    "ordinary play": repeats.plays,
    "the same twice": repeats.same_twice,
    "side by side": repeats.side_by_side,
    "after a broken one": repeats.after_a_broken_one,
    "answer in sight": answers.in_sight,
    "answer within reach": answers.within_reach,
    "no effort": free.effortless,
    "random play": free.at_random,
    "odd replies": texts.odd_replies,
    "control tokens": texts.control_tokens,
    "left open": leftovers.open_at_end,
    "cancelled": leftovers.cancelled,
    "latency": cost.latency,
}


class Audit:
    """Audits environments, in one process as far as they let it live."""

    def __init__(self, file):
        self.config = EnvironmentConfig(use=f"{file}:one_of_many", num_workers=1, max_turns=8, close_timeout_s=0.5)
        self.runner = asyncio.Runner()
        self.player = self.new_player()

    def new_player(self):
        return Player(EnvironmentWorkers(self.config), max_turns=self.config.max_turns)

    def __call__(self, environment, *probes, **changes):
        """Return the finding of each probe."""

        async def run():
            items = [{"environment": environment, "answer": 100 + number} for number in range(4)]
            tasks = [Task(id=f"t{place}", messages=(), item=item, split=Split.TEST) for place, item in enumerate(items)]
            settings = {"gold": "answer", "episodes_per_step": 6} | changes
            profile = EnvironmentProfile(
                player=self.player, other=self.new_player, planned=self.new_player, tasks=tasks, **settings
            )
            await profile.explore()
            return [await PROBES[probe](profile) for probe in probes]

        return self.runner.run(run())

    def close(self):
        self.runner.run(self.player.workers.close())
        self.runner.close()


@pytest.fixture(scope="module")
def audit(tmp_path_factory):
    file = tmp_path_factory.mktemp("audit") / "envs.py"
    file.write_text(ENVIRONMENTS)
    audit = Audit(file)
    yield audit
    audit.close()


def test_an_environment_without_faults(audit):
    found = dict(zip(PROBES, audit("fine", *PROBES), strict=True))
    assert found.pop("answer within reach").result is Result.NOT_APPLICABLE
    assert {name: finding.message for name, finding in found.items() if finding.result is not Result.PASSED} == {}


@pytest.mark.parametrize(
    ("environment", "probe", "message"),
    [
        ("raising", "ordinary play", "8 of 8 ordinary episodes have no reward: KeyError: 'gone' ("),
        ("silent", "ordinary play", "no episode asks the policy for a turn"),
        (
            "chance_of_the_process",
            "the same twice",
            "8 of 8 episodes differ when they are played again in the same pro",
        ),
        (
            "hash_of_the_process",
            "the same twice",
            "8 of 8 episodes differ when they are played again in another process",
        ),
        ("seeded_globally", "side by side", "episodes differ when others are played at the same time: before turn "),
        (
            "stained",
            "after a broken one",
            "3 of 3 episodes differ after another one was broken off: before turn 1, it ",
        ),
        (
            "telling",
            "answer in sight",
            "the reference (answer) is part of what the policy hears before it has said it ",
        ),
        ("telling_by_an_error", "answer in sight", "it in 4 of 4 tasks, and that of another task in 0"),
        ("exposing", "answer within reach", "of what the environment's programs can read in 4 of 4 tasks, and that of"),
        (
            "generous",
            "no effort",
            "mean of the best score: idle 100%, empty 100%, repeating 100%, constant 100%, overl",
        ),
        ("easy", "random play", "mean of the best score: random numbers "),
        ("converting", "odd replies", "1 of 16 odd replies make the environment fail, such as a superscript: ValueErr"),
        ("leaving_a_task", "left open", "8 episodes that were played to their end left open: 8 tasks"),
        ("leaving_a_socket", "left open", "left open: 16 sockets"),
        ("leaving_a_file", "left open", "left open: 8 files"),
        ("leaving_a_process", "left open", "8 processes"),
        ("closing_at_the_end", "cancelled", "12 episodes that were cancelled at every turn left open: "),
        ("stubborn", "cancelled", "did not close in time, so their process was killed"),
    ],
)
def test_a_planted_fault_is_found(audit, environment, probe, message):
    [finding] = audit(environment, probe)
    assert (finding.result, message in finding.message) == (Result.FAILED, True), finding


@pytest.mark.parametrize(
    ("environment", "probes"),
    [
        ("closing_at_the_end", ["left open"]),
        ("seeded_globally", ["the same twice"]),
        ("exposing", ["answer in sight", "left open"]),
        ("easy", ["no effort"]),
    ],
)
def test_what_is_no_fault_of_this_kind(audit, environment, probes):
    assert [finding.result for finding in audit(environment, *probes)] == [Result.PASSED] * len(probes)


def test_what_people_should_look_at(audit, monkeypatch):
    [finding] = audit("spelling", "control tokens")
    assert (finding.result, finding.figures) == (Result.WARNED, {"spelled": ["<|im_end|>"]})
    monkeypatch.setattr(cost, "SLOW_STEP_S", 0.0)
    [finding] = audit("fine", "latency")
    assert finding.result is Result.WARNED
    assert "sampling will wait for the environment" in finding.message


def test_a_column_that_no_row_has(audit):
    [finding] = audit("fine", "answer in sight", gold="anwser")
    assert finding.result is Result.NOT_APPLICABLE
    assert "no task has the column 'anwser'" in finding.message
    assert "the columns are environment, answer" in finding.message


TOOLS = """
def look_up(name: str, exact: bool) -> str:
    \"\"\"Look up a capital.

    Args:
        name: A country.
        exact: Whether the case counts.
    \"\"\"
    return {"France": "Paris"}[name]
"""


def test_tools_are_called_with_what_their_schema_allows(tmp_path):
    """Their errors beside ToolError are faults, whatever the policy has called them with."""
    (tmp_path / "tools.py").write_text(TOOLS)
    entries = {"capital": ToolConfig(use=f"{tmp_path}/tools.py:look_up")}
    [declared] = load_tools(entries, max_invalid_calls=3).tools

    async def run():
        workers = EnvironmentWorkers(EnvironmentConfig(num_workers=1), tools=entries)
        player = Player(workers, max_turns=8, tools=(declared,))
        task = Task(
            id="t", messages=({"role": "user", "content": "France"},), item={"answer": "Paris"}, split=Split.TEST
        )
        try:
            return await player.play(task, RANDOM[0]), await player.play(task, odd("²"))
        finally:
            await workers.close()

    heard, failed = asyncio.run(run())
    assert [len(reply.calls) for reply in heard.replies] == [1, 1, 1, 0]
    assert heard.heard[1][0]["content"] == "Paris"
    assert heard.replies[0].calls[0].arguments.keys() == {"name", "exact"}
    assert failed.score.status is Status.ENVIRONMENT_ERROR
    assert "tool capital: KeyError: '²'" in failed.score.reason


class Late:
    """Workers whose episodes all run out of time."""

    async def play(self, task, seed, begin):
        reason = "no end within 60 s (environment.timeout_s)"
        return Ending(Score(value=None, status=Status.ENVIRONMENT_ERROR, reason=reason)), begin()


def test_an_environment_that_runs_out_of_time_ends_the_audit():
    async def run():
        player = Player(Late(), max_turns=3)
        task = Task(id="t", messages=(), item={}, split=Split.TEST)
        profile = EnvironmentProfile(player=player, other=None, planned=None, tasks=[task] * 3, gold="answer")
        nothing = dict.fromkeys(("family", "why", "how", "threshold", "remedy"), "")

        async def fine(profile):
            return passed("fine")

        outcomes = await examine_environment(profile, probes=[Probe(name=name, run=fine, **nothing) for name in "ab"])
        with pytest.raises(TooSlow):
            await player.play(task, RANDOM[0])
        return [(outcome.probe.name, outcome.finding.result, outcome.finding.message) for outcome in outcomes]

    first, second = asyncio.run(run())
    assert first[:2] == ("a", Result.FAILED)
    assert "5 episodes ran out of time: no end within 60 s" in first[2]
    assert second == ("b", Result.NOT_APPLICABLE, "the audit was abandoned")
