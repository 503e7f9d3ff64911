"""From words on the command line and YAML files to a configuration, or to everything that is wrong with it."""

import re
from pathlib import Path
from typing import Any

import pytest

from rft.config import RunConfig
from rft.config.clusters import AttachClusterConfig, LocalClusterConfig
from rft.config.commands import load_evaluation, load_training
from rft.config.learners.grpo import GrpoLearnerConfig
from rft.config.presets import conf_dir
from rft.config.samplers.transformers import TransformersSamplerConfig
from rft.errors import ConfigError

QUICKSTART = "experiment=quickstart"
LOOP_KEYS = (
    "steps, num_epochs, prompts_per_step, completions_per_prompt, staleness, refill_rounds, pass_rate, "
    "checkpoint_every_steps, keep_checkpoints, notice, stop_timeout_s"
)


def train(*words: str) -> RunConfig:
    return load_training([QUICKSTART, *words])


def problems(*words: str) -> list[str]:
    """What is wrong with the quickstart plus these words."""
    with pytest.raises(ConfigError) as caught:
        train(*words)
    assert caught.value.exit_code == 2
    return list(caught.value.problems)


def test_values_from_presets_experiment_and_command_line() -> None:
    run = load_training([QUICKSTART, "learner.adapter.rank=4", "sampler=transformers", "logging=none"])
    assert (run.name, run.loop.steps, run.seed) == ("quickstart", 40, 0)  # experiment, experiment, schema
    assert isinstance(run.sampler, TransformersSamplerConfig)
    assert run.sampler.max_completion_tokens == 48  # the experiment's also for another preset
    assert isinstance(run.learner, GrpoLearnerConfig)
    assert (run.learner.adapter.rank, run.learner.adapter.alpha) == (4, 32.0)
    assert run.logging.report_to == []
    assert re.fullmatch(r"runs/quickstart/\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d", run.output_dir)


def test_the_last_of_two_words_for_one_key_wins() -> None:
    assert train("loop.steps=3", "loop.steps=4").loop.steps == 4


@pytest.mark.parametrize("word", ["loop.steps=3", "+loop.steps=3", "++loop.steps=3"])
def test_a_plus_changes_nothing(word: str) -> None:
    assert train(word).loop.steps == 3


def test_hydras_own_config_dir_is_searched_for_presets_too(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mine.yaml").write_text("train: mine.jsonl\n")
    search = f"hydra.searchpath=['file://{tmp_path}']"
    assert train(search, "data=mine").data.train == "mine.jsonl"
    (problem,) = problems(search, "data=minee")[:1]
    assert problem.startswith("data=minee: unknown preset (did you mean mine?); available: chain_sum, ")
    assert ", linkedin_voice, mine, " in problem


# What is wrong: each with what was given, what is allowed, and the nearest that is.


def test_unknown_keys_are_all_reported_with_the_nearest() -> None:
    assert problems("loop.setps=3", "+loop.prompt_per_step=4", "lop.steps=3") == [
        f"loop.setps is unknown; did you mean loop.steps? Allowed in loop: {LOOP_KEYS}",
        f"loop.prompt_per_step is unknown; did you mean loop.prompts_per_step? Allowed in loop: {LOOP_KEYS}",
        "lop is unknown; did you mean loop? Allowed at the top: seed, name, output_dir, resume, or_resume, start, "
        "start_mode, storage, storage_timeout_s, dry_run, audit, feasibility, model, data, retrieval, loop, sampler, "
        "learner, teacher, environment, tools, graders, grading, evaluation, logging, cluster",
    ]


def test_a_key_in_the_wrong_section() -> None:
    assert problems("model.learning_rate=1") == [
        "model.learning_rate is unknown; did you mean learner.learning_rate? "
        "Allowed in model: path, chat_template, chat_template_kwargs, dtype, response_template, call_open, call_close, "
        "max_context_tokens"
    ]


def test_a_key_below_a_union() -> None:
    assert problems("learner.adapter.rnk=4") == [
        "learner.adapter.rnk is unknown for learner.adapter=lora; did you mean learner.adapter.rank? "
        "Allowed in learner.adapter: layers, modules, rank, alpha, dropout"
    ]


@pytest.mark.parametrize(
    ("words", "start"),
    [
        (
            ("sampler=fake", "sampler.engine.x=3"),
            "sampler.engine is unknown for sampler=fake; it belongs to sampler=vllm; ",
        ),
        (("sampler.script=[a]",), "sampler.script is unknown for sampler=vllm; it belongs to sampler=fake; "),
        (
            ("learner=fake", "learner.trl.beta=1"),
            "learner.trl is unknown for learner=fake; it belongs to learner=distill, learner=dpo, learner=gmpo, "
            "learner=grpo, learner=kto, learner=ppo, learner=raft and learner=reinforce_pp_baseline; ",
        ),
    ],
)
def test_a_key_of_another_kind_says_of_which(words: tuple[str, ...], start: str) -> None:
    (problem,) = problems(*words)
    assert problem.startswith(f"{start}remove it with ~{start.split()[0]}. Allowed in ")


def test_typos_in_an_experiment_file_are_all_reported(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(
        "# @package _global_\n"
        "defaults:\n  - override /data: chain_sum\n"
        "model: {path: embedded:tiny}\nloop: {stps: 3}\nevaluation: {metrik: reward}\n"
        "graders: {correct: {use: exact}}\n"
    )
    with pytest.raises(ConfigError) as caught:
        load_training([f"hydra.searchpath=['file://{tmp_path}']", "experiment=mine", "seed=x"])
    assert [problem.split(";")[0] for problem in caught.value.problems] == [
        "seed=x: should be a whole number",
        "loop.stps is unknown",
        "evaluation.metrik is unknown",
    ]


@pytest.mark.parametrize(
    ("word", "problem"),
    [
        ("loop.steps=x", "loop.steps=x: should be a whole number"),
        ("loop.steps=0", "loop.steps=0: should be at least 1"),
        ("loop.steps=1.5", "loop.steps=1.5: should be a whole number"),
        ("loop.steps=true", "loop.steps=true: should be a number, not true or false"),
        ("seed=false", "seed=false: should be a number, not true or false"),
        ("loop.steps=null", "loop.steps=null: should be a whole number"),
        ("learner.learning_rate=nan", "learner.learning_rate=nan: should be a finite number"),
        ("learner.adapter.alpha=inf", "learner.adapter.alpha=inf: should be a finite number"),
        ("learner.adapter.rank=513", "learner.adapter.rank=513: should be at most 512"),
        ("model.dtype=fp8", "model.dtype=fp8: should be 'auto', 'float32', 'bfloat16' or 'float16'"),
        ("sampler.serve=auto", "sampler.serve=auto: should be 'adapter' or 'merged'"),
        ("data.columns.prompt=3", "data.columns.prompt=3: should be a text"),
        ("data.validation_share=1", "data.validation_share=1: should be less than 1"),
        ("logging.report_to=wandb", "logging.report_to=wandb: should be a list; write [wandb]"),
        ("loop=3", "loop=3: this is a section; set its keys with loop.<name>=<value>"),
        ("model=null", "model=null: this is a section; set its keys with model.<name>=<value>"),
        (
            "graders.correct=3",
            "graders.correct=3: should be a mapping of names to values; write graders.correct.use=<grader>",
        ),
        ("graders.new=exact", "graders.new=exact: should be a mapping of names to values; write graders.new.use=exact"),
        (
            "evaluation.every_steps=0",
            "evaluation.every_steps=0: should be at least 1; to turn it off, write evaluation.every_steps=null",
        ),
        ("quickstart", "quickstart: did you mean the preset experiment=quickstart?"),
        ("dapo", "dapo: did you mean the preset learner=dapo?"),
        ("seed", "seed: the value is missing; write seed=<value>"),
        ("output_dir=null", "output_dir=null: should be a text"),
        ("output_dir=???", "output_dir is missing: The run folder; it must not contain a run."),
        (
            "sampler.kind=nope",
            "sampler.kind=nope: should be one of 'fake', 'server', 'sglang_server', 'transformers', 'vllm'; select it "
            "with sampler=<preset>",
        ),
    ],
)
def test_wrong_types_and_values(word: str, problem: str) -> None:
    assert problems(word) == [problem]


@pytest.mark.parametrize(
    ("word", "problem"),
    [
        (
            "sampler=vlm",
            "sampler=vlm: unknown preset (did you mean vllm?); available: fake, server, sglang_server, transformers, "
            "vllm",
        ),
        ("sampler=null", "sampler=null: unknown preset; available: fake, server, sglang_server, transformers, vllm"),
        (
            "data=gsm9k",
            "data=gsm9k: unknown preset (did you mean gsm8k?); available: chain_sum, contract_ca, families, gsm8k, "
            "linkedin_voice, orchid_support, product_descriptions, sums_and_divisors",
        ),
        (
            "learner=3",
            "learner=3: unknown preset; available: dapo, distill, dpo, dr_grpo, fake, gmpo, grpo, gspo, kto, ppo, "
            "raft, reinforce_pp_baseline, rloo, sft",
        ),
    ],
)
def test_presets_that_do_not_exist(word: str, problem: str) -> None:
    assert problems(word) == [problem]


def test_what_an_unknown_experiment_would_have_given_is_not_called_missing() -> None:
    with pytest.raises(ConfigError) as caught:
        load_training(["experiment=quickstrt", "seed=x", "graders.odd.use=exat"])
    assert [problem.split(" ")[0] for problem in caught.value.problems] == [
        "experiment=quickstrt:",
        "seed=x:",
        "graders.odd.use:",
    ]


@pytest.mark.parametrize(
    "word", ["=3", "data.system=a=b", "data.system=a(b", "loop.steps=${", "a b c", "model.path=~/m"]
)
def test_what_is_no_override_is_repeated_with_how_to_write_one(word: str) -> None:
    (problem,) = problems(word)
    assert problem.startswith(f"{word}: ")
    assert problem.endswith("write key=value; a value with = , ~ or brackets in quotes, as \"key='a, b'\"")


@pytest.mark.parametrize(
    "word", ["loop.steps=1,2", "sampler=vllm,fake", "data.system=Be brief, please", "seed=range(3)"]
)
def test_several_values_need_a_multirun(word: str) -> None:
    assert problems(word) == [
        f"{word}: several values; write key=[a,b] for a list, \"key='a,b'\" for a text, "
        "or add --multirun for a run of each"
    ]


@pytest.mark.parametrize(
    ("word", "problem"),
    [
        ("loop.steps=${loop.stps}", "loop.steps: Interpolation key 'loop.stps' not found"),
        ("loop.steps=${nope:3}", "loop.steps: Unsupported interpolation type nope"),
        ("output_dir=${nope}", "output_dir: Interpolation key 'nope' not found"),
    ],
)
def test_interpolations_that_lead_nowhere_do_not_hide_the_rest(word: str, problem: str) -> None:
    assert problems(word, "seed=x") == [
        problem,
        "seed=x: should be a whole number",
    ]


def test_an_interpolation() -> None:
    assert train("loop.steps=${loop.prompts_per_step}").loop.steps == 8


def test_everything_at_once() -> None:
    found = problems(
        "sampler=vlm",
        "loop.steps",
        "loop.steps=x",
        "loop.setps=3",
        "loop.pass_rate={min: 0.9, max: 0.1}",
        "learner.completions_per_micro_batch=3",
        "learner.trl.max_steps=3",
        "graders.correct.use=reasoning_gim",
        "evaluation.metric=corect",
        "logging.report_to=[nope]",
    )
    assert [re.split(r"[:; =]", problem)[0] for problem in found] == [
        "sampler",
        "loop.steps",
        "loop.steps",
        "loop.setps",
        "loop.pass_rate.min",
        "learner.completions_per_micro_batch",
        "learner.trl.max_steps",
        "graders.correct.use",
        "evaluation.metric",
        "logging.report_to",
    ]


def test_nothing_is_said_that_only_follows_from_a_wrong_value() -> None:
    # 64 completions per micro-batch fit the default of 8 prompts x 8 completions, but not 8 x 7.
    assert problems("loop.prompts_per_step=x", "loop.completions_per_prompt=7") == [
        "loop.prompts_per_step=x: should be a whole number"
    ]


# Values that need care on a command line.


def test_null_switches_off_what_may_be_off() -> None:
    assert train("evaluation.every_steps=null").evaluation.every_steps is None
    assert train("learner.completions_per_micro_batch=null").learner.completions_per_micro_batch is None


def test_null_where_something_is_needed() -> None:
    (problem,) = problems("model.path=null")
    assert problem.startswith("model.path is missing: a folder with a Hugging Face model, a hub id such as ")


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("data.system='Be brief, with x=3.'", "Be brief, with x=3."),
        ('data.system="Don\'t (ever) {guess}"', "Don't (ever) {guess}"),
        ("data.system=Be brief", "Be brief"),
        ("data.system='null'", "null"),
        ("data.system=", ""),
        ("data.system=null", None),
        ("data.system='3'", "3"),
    ],
)
def test_texts(word: str, value: str | None) -> None:
    assert train(word).data.system == value


@pytest.mark.parametrize("path", ["/with space/m", "C:\\models\\m", "/a:b@c", "../m-1.5_b"])
def test_paths(path: str) -> None:
    assert train(f"model.path={path}").model.path == path


def test_numbers() -> None:
    run = train("learner.learning_rate=1e-4", "loop.steps=1e3", "sampler.temperature=1")
    assert (run.learner.learning_rate, run.loop.steps, run.sampler.temperature) == (0.0001, 1000, 1.0)


def test_lists_and_mappings() -> None:
    run = train("logging.report_to=[]", "data.columns={prompt: question}", "data.columns.id=key")
    assert run.logging.report_to == []
    assert run.data.columns == {"prompt": "question", "id": "key"}


# Graders have no schema of their own, so keys are added without a `+`.


@pytest.mark.parametrize(
    ("words", "graders"),
    [
        (("graders.correct.weight=2",), {"correct": {"use": "reasoning_gym", "weight": 2}}),
        (("~graders.correct", "graders.same.use=exact"), {"same": {"use": "exact"}}),
        (
            ("graders.brief.use=length", "graders.brief.free_tokens=10", "graders.brief.max_tokens=20"),
            {
                "correct": {"use": "reasoning_gym"},
                "brief": {"use": "length", "free_tokens": 10, "max_tokens": 20},
            },
        ),
    ],
)
def test_graders(words: tuple[str, ...], graders: dict[str, Any]) -> None:
    assert train(*words).graders == graders


def test_removing_the_only_grader() -> None:
    (problem,) = problems("~graders.correct")
    assert problem.startswith("graders is empty: add at least one grader, such as graders.correct.use=exact or ")


def test_removing_what_is_not_there() -> None:
    assert problems("~graders.nope") == ["~graders.nope: there is no graders.nope to remove"]


# The other command.


def test_everything_missing_is_reported() -> None:
    with pytest.raises(ConfigError) as caught:
        load_training([])
    assert [problem.split(":")[0] for problem in caught.value.problems] == [
        "model.path is missing",
        "data.train is missing",
        "graders is empty",
    ]
    with pytest.raises(ConfigError) as caught:
        load_evaluation(["learner.learning_rate=1"])
    assert [re.split("[:;]", problem)[0] for problem in caught.value.problems] == [
        "learner is unknown",
        "graders is empty",
        "model.path is missing",
        "data.test is missing",
    ]


def test_an_evaluation() -> None:
    config = load_evaluation(["adapter=runs/x", "data.test=t.jsonl", "graders.a.use=exact"], "here")
    assert (config.adapter, config.data.test, config.output_dir) == ("runs/x", "t.jsonl", "here")


def test_the_folder_of_the_yaml_files() -> None:
    assert (conf_dir() / "train.yaml").is_file()


def test_a_cluster() -> None:
    assert train().cluster == LocalClusterConfig()
    attached = train("cluster=attach", "cluster.address=10.0.0.1:6379", "cluster.placement_timeout_s=5").cluster
    assert attached == AttachClusterConfig(address="10.0.0.1:6379", placement_timeout_s=5.0)
    assert problems("cluster.address=10.0.0.1:6379")[0].startswith(
        "cluster.address is unknown for cluster=local; it belongs to cluster=attach; remove it with ~cluster.address. "
    )
    assert problems("cluster=attach", "cluster.node_folder=mine") == [
        "cluster.node_folder=mine: should be an absolute folder"
    ]
