"""Every wait has a name and a deadline (`rft.waiting`); the others are listed here with the reason."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.parsed import parsed

ROOT = Path(__file__).parents[1]
ENDLESS = {"wait", "join", "get", "result", "acquire"}
"""Methods that wait without limit if they are called without arguments."""
BOUNDED = {"wait_for", "blocking", "within", "ask", "ask_ranks"}
"""Functions that bound the waits among their arguments."""
NO_WAITS = {"HydraConfig", "_observer", "_zygotes"}
"""Objects whose `get` returns at once."""

IDLE = "waits for work, or for the end of its owner"
BOUNDED_BY_CALLER = "its caller waits with a deadline"
DONE = "its result is there already"
REPLACEMENT = "a replacement has a deadline (sampler.replacement_timeout_s) for its place, and one for its start"

EPISODE = "an episode has deadlines (environment.timeout_s, close_timeout_s)"
WITHOUT_DEADLINE: dict[str, str] = {
    "rft/cluster/host_link.py: answer.result()": DONE,
    "rft/cluster/host_link.py: asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)": BOUNDED_BY_CALLER,
    "rft/cluster/host_link.py: self._actor.receive.remote()": "within asyncio.timeout (SILENT_S)",
    "rft/cluster/host_link.py: self._has_orders.wait()": IDLE,
    "rft/cluster/session.py: ended.wait()": IDLE,
    "rft/cluster/stack_traces.py: task.remote()": BOUNDED_BY_CALLER,
    "rft/auditing/environments/episodes.py: asyncio.wait([play, until], return_when=asyncio.FIRST_COMPLETED)": EPISODE,
    "rft/auditing/environments/episodes.py: reached.wait()": EPISODE,
    "rft/episodes/command.py: ended.result()": DONE,
    "rft/episodes/command.py: process.wait()": "awaited until environment.timeout_s, and then killed",
    "rft/episodes/command.py: session.failed.result()": DONE,
    "rft/episodes/endpoint/server.py: self._serving.result()": DONE,
    "rft/episodes/host.py: self._news.wait()": "within asyncio.timeout (POLL_S)",
    "rft/episodes/sampler.py: self._ended.get()": "an environment, a turn and a closing episode have deadlines",
    "rft/episodes/tools/play.py: task.result()": DONE,
    "rft/episodes/tools/mcp_session.py: asyncio.wait([self._owner])": "within asyncio.timeout (END_S)",
    "rft/episodes/tools/mcp_session.py: self._orders.get()": IDLE,
    "rft/episodes/worker_main.py: asyncio.Event().wait()": IDLE,
    "rft/episodes/workers.py: session.failed.result()": DONE,
    "rft/episodes/attempt.py: self._inbox.get()": "within asyncio.timeout (environment.timeout_s, close_timeout_s)",
    "rft/grading/outbound/export.py: asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()": (
        "each worker process is killed after a deadline"
    ),
    "rft/grading/outbound/export.py: asyncio.run_coroutine_threadsafe(self._grade(groups), self._loop).result()": (
        "each grader has a deadline"
    ),
    "rft/grading/outbound/export.py: self._thread.join()": "its event loop was stopped",
    "rft/grading/outbound/service.py: work.result()": DONE,
    "rft/grading/processes/workers.py: self._arrived.wait()": IDLE,
    "rft/grading/running.py: work.result()": DONE,
    "rft/grading/sandbox/run.py: running.result()": "each sandboxed program has a deadline",
    "rft/grading/sandbox/zygote.py: self._process.wait()": "the process was killed",
    "rft/learning/ranks.py: self._group.allreduce([summed]).wait()": "the process group has a timeout",
    "rft/learning/remote.py: asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)": BOUNDED_BY_CALLER,
    "rft/learning/remote.py: task.result()": DONE,
    "rft/learning/trainer_thread.py: self._batches.get()": IDLE,
    "rft/run/reporting/emitter.py: self._events.get()": IDLE,
    "rft/run/grader_models.py: actor.score.remote(list(rows))": "the grader has a deadline",
    "rft/run/teachers/teacher_scores.py: scoring[task.id].result()": DONE,
    "rft/run_folder/rollout_files.py: self._compression.result()": DONE,
    "rft/sampling/actor.py: asyncio.wait([self._driver])": BOUNDED_BY_CALLER,
    "rft/sampling/actor.py: ended.get()": BOUNDED_BY_CALLER,
    "rft/sampling/actor.py: self._building.result()": DONE,
    "rft/sampling/contact.py: task.result()": DONE,
    "rft/sampling/engines.py: sampler.actor.describe.remote()": BOUNDED_BY_CALLER,
    "rft/sampling/engines.py: sampler.actor.start.remote()": BOUNDED_BY_CALLER,
    "rft/sampling/fleet.py: self._loaded.wait()": "the load has a deadline",
    "rft/sampling/fleet.py: stream.closed.wait()": "an environment and a turn of an episode have deadlines",
    "rft/sampling/replacements.py: self._changed.wait()": REPLACEMENT,
    "rft/sampling/replacements.py: self._may_start.wait()": "the next load or restart of the learner has deadlines",
    "rft/sampling/stream.py: call.is_received.wait()": BOUNDED_BY_CALLER,
    "rft/sampling/turns.py: self._has_requests.wait()": IDLE,
    "rft/sampling/server_engine.py: asyncio.run_coroutine_threadsafe(call, self._loop).result()": (
        "each request to the server has a deadline"
    ),
    "rft/sampling/server_engine.py: future.result()": DONE,
    "rft/sampling/stream.py: asyncio.wait(at_work)": "the consumer of the completions gives up silent samplers",
    "rft/sampling/stream.py: self._arrived.get()": REPLACEMENT,
    "rft/sweep/shared_engines.py: asyncio.wait([self.starting])": "the start was cancelled",
    "rft/terminal/event_loop.py: _Background(main).result()": "the whole run",
    "rft/terminal/event_loop.py: future.result()": "it is done",
}
"""Waits without a deadline of their own, and why they end."""


def waits_in(file: Path) -> Iterator[str]:
    """`rft/run/reporting/emitter.py: self._events.get()` for each wait of a file without a deadline."""
    tree = parsed(file)
    bounded: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and _name(node) in BOUNDED:
            bounded |= {inner for argument in node.args for inner in ast.walk(argument)}
    for node in ast.walk(tree):
        if node not in bounded and (call := _endless(node)) is not None:
            yield f"{file.relative_to(ROOT)}: {ast.unparse(call)}"


def _name(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def _endless(node: ast.AST) -> ast.Call | None:
    """The call of a wait that may never end: of a lock, a queue, a future, other tasks, or an actor."""
    if isinstance(node, ast.Await) and isinstance(node.value, ast.Call) and _name(node.value) == "remote":
        return node.value
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
        return None
    owner = ast.unparse(node.func.value)
    if node.func.attr in ENDLESS and not node.args and not node.keywords and owner not in NO_WAITS:
        return node
    takes_timeout = (owner, node.func.attr) in {("asyncio", "wait"), ("ray", "get"), ("ray", "wait")}
    return node if takes_timeout and not any(keyword.arg == "timeout" for keyword in node.keywords) else None


def test_waits_without_a_deadline_are_known() -> None:
    found = {wait for file in sorted(ROOT.glob("rft/**/*.py")) for wait in waits_in(file)}
    assert found == set(WITHOUT_DEADLINE)
