"""The texts of `--help` and `rft config`."""

from __future__ import annotations

import difflib
import itertools
import textwrap
from collections.abc import Iterator, Mapping, Sequence

from rft.config.catalog import RECEIVERS, SCHEMAS, command_of
from rft.config.command_line import OPTIONS, SHORT, allowed_options, read_line
from rft.config.presets import conf_dir, groups, preset_names
from rft.config.reference import GRADER, Key, Part, reference
from rft.errors import ConfigError
from rft.wording import listed

WIDTH = 100
USES: Mapping[str, str] = {
    "train": """\
rft train: train an adapter on tasks whose completions graders score.

  rft train experiment=quickstart                   the embedded model and tasks
  rft train model.path=... data.train=tasks.jsonl graders.correct.use=exact
  rft check experiment=quickstart                   check everything that the run needs, and start nothing
  rft train resume=runs/quickstart/<time>           continue from the last checkpoint
  rft train --or-resume output_dir=runs/a ...       continue the run in this folder, or else start it
  rft train -m experiment=quickstart seed=0,1,2     a run for each value, and a table that compares them
  rft train --config-dir mine experiment=mine       a preset of your own, mine/experiment/mine.yaml
""",
    "sweep": """\
rft sweep: search for good settings with many runs. Keys with several values are searched. All keys except those of the
sweep are keys of rft train, and apply to every trial.

  rft sweep sweep=lr_optuna experiment=quickstart                 the learning rate
  rft sweep sweep=lr_optuna experiment=quickstart sweep.trials=30 sweep.parallel=2
  rft sweep experiment=quickstart learner.learning_rate='tag(log, interval(1e-5, 1e-2))' learner.adapter.rank=4,8,16
  rft sweep resume=runs/quickstart/sweep_<time> sweep.trials=40   continue, with more trials
  rft sweep --config-dir mine sweep=mine experiment=mine          presets of your own
""",
    "pipeline": """\
rft pipeline: train in stages, each an ordinary run that starts from the result of the one before. All keys except those
of the pipeline are keys of rft train, and apply to every stage.

  rft pipeline experiment=sft_then_grpo                           demonstrations, then reinforcement
  rft pipeline experiment=sft_then_grpo stages.grpo.loop.steps=80 a key of one stage
  rft pipeline experiment=quickstart stages.one.learner=raft stages.two.learner=grpo
  rft pipeline resume=runs/quickstart/pipeline_<time>             continue; stages that are done are not repeated
""",
    "evaluate": """\
rft evaluate: measure a base model or an adapter on a task file.

  rft evaluate model.path=embedded:tiny data.test=embedded:chain_sum/test graders.correct.use=reasoning_gym
  rft evaluate adapter=runs/quickstart/<time> data.test=tasks.jsonl graders.correct.use=exact
""",
    "play": """\
rft play: play one episode with the first task of data.test, shown turn by turn, with its scores.

  rft play experiment=calculator                                  what the experiment trains, before training
  rft play experiment=calculator adapter=runs/calculator/<time>   and after it
  rft play model.path=... environment.use=my_env.py:guess data.test=games.jsonl
  rft play model.path=... tools.add.use=my_tools.py:add data.test=tasks.jsonl graders.correct.use=numeric

sampler=transformers starts faster than vLLM. The exit code is 1 if the environment or a grader fails.
""",
    "merge": """\
rft merge: merge an adapter into its base model, write a plain model folder, and prove that the two match.

  rft merge adapter=runs/quickstart/<time> output_dir=merged
  rft merge adapter=runs/quickstart/<time> output_dir=merged model.dtype=float32
""",
    "grade": """\
rft grade: grade recorded completions; writes scores.jsonl and summary.json.

  rft grade data=runs/quickstart/<time> graders.concise.use=my_graders.py:concise
  rft grade data=completions.jsonl graders.correct.use=exact grading.cache_folder=scores

Each line of completions.jsonl has "completion" (or "output", or "response"), and "prompt" or "messages". Graders
read the other columns.
""",
    "pairs": """\
rft pairs: write the best and the worst completions of a run as training rows, also while the run continues.

  rft pairs run=runs/quickstart/<time> out=pairs.jsonl                      chosen and rejected completions
  rft pairs run=runs/quickstart/<time> out=pairs.jsonl min_gap=0.5 max_per_prompt=1
  rft pairs run=runs/quickstart/<time> out=best.jsonl rows=demonstrations   best completions alone
""",
    "audit": """\
rft audit: probe graders, or an environment, before training; writes audit.json and audit.html. No model is needed.

  rft audit data=tasks.jsonl graders.correct.use=numeric
  rft audit data=tasks.jsonl gold=solution graders.main.openai=grader.json completions=runs/base/<time>
  rft audit data=numbers.jsonl gold=secret environment.use=my_env.py:guess

The exit code is 1 if a probe fails. `rft train` then refuses graders that failed until an audit passes, unless you set
audit=warn or audit=off.
""",
    "feasibility": """\
rft feasibility: sample training tasks with the policy that a run starts from, and say whether the run is worth
starting. It takes the keys of rft train; writes feasibility.json. The exit code is 1 if the verdict is no-go.

  rft feasibility experiment=quickstart
  rft feasibility experiment=quickstart feasibility.max_tasks=64 feasibility.price_per_hour=2.5 out=feasibility.json
  rft feasibility experiment=quickstart learner=fake         without the learner: its time is not measured

rft train feasibility=refuse does the same before the first step, and ends the run if the verdict is no-go.
""",
    "serve_grader": """\
rft serve-grader: answer POST /grade with rewards until Ctrl-C. The service does not authenticate its clients.

  rft serve-grader graders.correct.use=numeric port=8000
""",
}
"""Purpose and examples of each command."""


def help_text(config_name: str, words: Sequence[str] = ()) -> str:
    """Return the text of `--help` of a command.

    Args:
        config_name: The primary file in `conf/`, without `.yaml`.
        words: The arguments of the command; `--config-dir` adds presets.

    Raises:
        ConfigError: An option or a folder does not exist.
    """
    folders = [conf_dir(), *read_line(words, command_of(config_name)).folders]
    names = {group: preset_names(group, folders) for group in groups(config_name)}
    if config_name in RECEIVERS:
        names |= {group: preset_names(group, folders) for group in groups("train")}
    lines = [USES[config_name]]
    if names:
        lines += ["Presets (select one with <group>=<preset>):", ""]
        lines += [f"  {group:<12} {', '.join(presets)}" for group, presets in sorted(names.items())] + [""]
    lines += ["Options:", "", *_options(config_name), ""]
    lines += ["Keys (set one with <key>=<value>):", "", *_parts(reference(config_name))]
    if config_name in RECEIVERS:
        lines += [f"Keys of the {RECEIVERS[config_name]} (those of rft train):", "", *_parts(reference("train"))]
    return "\n".join(lines).rstrip() + "\n"


def config_text(asked: str) -> str:
    """Return the text of `rft config <key>`: a key or a section of any command.

    Raises:
        ConfigError: No key or section has this name.
    """
    entries: dict[Part | Key, list[str]] = {}
    for config_name in SCHEMAS:
        for part in reference(config_name):
            is_asked = part.section in (asked, asked.replace("graders", GRADER)) and part.section
            for entry in [part] if is_asked else [key for key in part.keys if _is_asked(key, asked)]:
                entries.setdefault(entry, []).append(command_of(config_name))
    if not entries:
        raise ConfigError("rft config", [_no_such(asked)])
    lines: list[str] = []
    for commands, together in itertools.groupby(entries, key=lambda entry: ", ".join(entries[entry])):
        lines += [f"{commands}:", ""]
        for entry in together:
            lines += _parts([entry]) if isinstance(entry, Part) else _key(entry)
        lines += [""] if lines[-1] else []
    return "\n".join(lines).rstrip() + "\n"


def sections_text() -> str:
    """Return the text of `rft config`: the sections."""
    sections: dict[str, str] = {}
    for config_name in SCHEMAS:
        for part in reference(config_name):
            if part.section and not part.kinds:
                kinds = ", ".join(kind for kind, _ in part.choices)
                sections.setdefault(part.section, part.meaning or f"One of {kinds}.")
    lines = [
        "rft config <section> explains the keys of a section, rft config <key> a single key such as loop.steps.",
        "",
    ]
    for name, meaning in sections.items():
        lines += textwrap.wrap(meaning, WIDTH, initial_indent=f"  {name:<15} ", subsequent_indent=" " * 18)
    return "\n".join(lines) + "\n"


def all_keys() -> list[str]:
    """Return the names of all keys of all commands, without duplicates."""
    return list(dict.fromkeys(key.name for name in SCHEMAS for part in reference(name) for key in part.keys))


def _is_asked(key: Key, asked: str) -> bool:
    """Whether `asked` names the key, its section, or an entry of its mapping."""
    if asked.startswith("graders.") and key.name.startswith(f"{GRADER}."):
        return asked.partition(".")[2].partition(".")[2] == key.name.removeprefix(f"{GRADER}.")
    holds = key.type == "mapping" and asked.startswith(f"{key.name}.")
    return key.name == asked or key.name.startswith(f"{asked}.") or holds


def _no_such(asked: str) -> str:
    known = all_keys()
    name, equals, _ = asked.partition("=")
    if equals and name in known:
        return f"{asked}: rft config explains keys and takes no values; write rft config {name}"
    sections = [part.section for name in SCHEMAS for part in reference(name) if part.section]
    near = [name for name in known if name.rpartition(".")[2] == asked.rpartition(".")[2]]
    near += difflib.get_close_matches(asked, [*known, *dict.fromkeys(sections)], n=3, cutoff=0.7)
    last = {name.rpartition(".")[2]: name for name in reversed(known)}
    near += [last[name] for name in difflib.get_close_matches(asked.rpartition(".")[2], last, n=2, cutoff=0.75)]
    hint = f"did you mean {' or '.join(list(dict.fromkeys(near))[:3])}?" if near else "rft config lists the sections"
    return f"{asked}: no such key or section; {hint}"


def _options(config_name: str) -> Iterator[str]:
    short = {full: name for name, full in SHORT.items()}
    for name in allowed_options(command_of(config_name)):
        value, meaning = OPTIONS[name]
        form = ", ".join(word for word in (short.get(name), f"{name} {value}".strip()) if word)
        yield f"  {form:<28} {meaning}"


def _parts(parts: Sequence[Part]) -> Iterator[str]:
    for part in parts:
        title = part.section or "general"
        if part.kinds:
            title = f"{part.section}, only of {listed([f'{part.section}={kind}' for kind in part.kinds])}"
        yield from textwrap.wrap(f"{title}: {part.meaning}" if part.meaning else title, WIDTH)
        for kind, meaning in part.choices:
            first = f"  {f'{part.section}={kind}':<22}"
            yield from textwrap.wrap(meaning, WIDTH, initial_indent=first, subsequent_indent=" " * 24)
        yield ""
        for key in part.keys:
            yield from _key(key)
        yield ""


def _key(key: Key) -> Iterator[str]:
    written = f"{key.name}  (required)" if key.default is None else f"{key.name}={key.default}"
    yield f"  {written:<46}  {key.type}"
    yield from textwrap.wrap(key.meaning, WIDTH, initial_indent=" " * 6, subsequent_indent=" " * 6)
