"""The teachers of a run that distils: reads their models and adapters, and checks that they fit the student.

    teacher/0/adapter_config.json, teacher/0/adapter_model.safetensors    the adapter of the first teacher

The run folder keeps these copies. A resumed run reads them, so it needs the folder of the adapter no more.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rft.config import EvaluateConfig, RunConfig
from rft.config.adapter_settings import run_folder_of
from rft.config.samplers.base import SamplerConfig
from rft.config.teacher_problems import teacher_sampler
from rft.errors import ModelError
from rft.models.adapter_folder import CONFIG, TENSORS, load_adapter
from rft.models.adapter_tensors import base_problem
from rft.models.base_model import context_tokens, load_tokenizer, locate, read_config
from rft.models.weight_files import read_weights
from rft.reliability.durable import writing
from rft.reliability.temporary import temporary_folder
from rft.run.inputs.fitting import collect
from rft.run_folder.lineage import base_fingerprint
from rft.storage import Place
from rft.types import Adapter, Policy
from rft.wording import listed

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

FOLDER = "teacher"
"""Folder of a run with the adapters of its teachers."""
MAX_SHOWN_TOKENS = 3
"""Maximum number of tokens in a message."""
NOT_COMPARED = "pad_token"
"""Special token that may differ: the teacher never sees padding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Teacher:
    """A model that scores the tokens of the student.

    Example:
        Teacher(model=Path("/models/7b"), name="Qwen/Qwen2.5-7B-Instruct", base=Policy(...), context_tokens=32768, ...)
    """

    model: Path
    """Folder of the model."""
    name: str
    """Its path in the configuration."""
    base: Policy
    """The model as a policy, without an adapter."""
    adapter: Adapter | None = None
    """The adapter on the model; None for the model alone."""
    context_tokens: int | None
    """Longest sequence of the model, in tokens; None if its `config.json` does not contain it."""
    warnings: tuple[str, ...] = ()
    """Warnings about valid but unusual teachers."""
    adapter_path: str | None = None
    """Path of the adapter in the configuration."""
    families: tuple[str, ...] = ()
    """The task families that it scores; empty for all tasks."""

    @property
    def key(self) -> str:
        """Its section in the configuration."""
        return f"teacher.by_family.{self.families[0]}" if self.families else "teacher"

    @property
    def role(self) -> str:
        """Its name in messages and plans: `teacher`, or `teacher of gcd and sums`."""
        return f"teacher of {listed(self.families)}" if self.families else "teacher"

    @property
    def facts(self) -> dict[str, Any]:
        """Paths and fingerprints, for the manifest."""
        facts: dict[str, Any] = {"path": self.name, "fingerprint": self.base.fingerprint}
        if self.adapter is not None:
            facts["adapter"] = {"path": self.adapter_path, "fingerprint": self.adapter.policy.fingerprint}
        return facts

    def sampler(self, run: RunConfig, *, on_gpu: bool) -> SamplerConfig:
        """Return the settings of its engines."""
        sampler = teacher_sampler(run, on_gpu=on_gpu)
        return sampler if self.adapter is None else sampler.suited_to(self.adapter.config)

    def __str__(self) -> str:
        text = f"{self.name} (fingerprint {self.base.fingerprint})"
        if self.adapter is not None:
            text += f" with the adapter {self.adapter_path} (fingerprint {self.adapter.policy.fingerprint})"
        return text


def read_teachers(
    run: RunConfig | EvaluateConfig, tokenizer: PreTrainedTokenizerBase | None, fingerprint: Callable[[Path], str]
) -> tuple[Teacher, ...]:
    """Find and check the teachers of a run; none for a run without one, and for a measurement.

    Args:
        run: A checked configuration.
        tokenizer: The student's, with the chat template of the run; without one, nothing is read.
        fingerprint: Returns the fingerprint of a model's folder.

    Raises:
        ModelError: Contains all problems: models or adapters cannot be read, or do not fit the student or each other.
    """
    if isinstance(run, EvaluateConfig) or not run.learner.has_teacher or tokenizer is None:
        return ()
    problems: list[str] = []
    teachers = [
        collect(problems, partial(_read, run, number, families, tokenizer, fingerprint))
        for number, families in enumerate(run.teacher.distinct.values())
    ]
    if problems:
        raise ModelError("teacher", problems)
    return tuple(teacher for teacher in teachers if teacher is not None)


def _read(
    run: RunConfig,
    number: int,
    families: tuple[str, ...],
    tokenizer: PreTrainedTokenizerBase,
    fingerprint: Callable[[Path], str],
) -> Teacher:
    """Find and check a teacher.

    Raises:
        ModelError: Contains all problems.
    """
    given = list(run.teacher.distinct)[number]
    name, adapter_path = given.path or run.model.path or "", given.adapter
    key = f"teacher.by_family.{families[0]}" if families else "teacher"
    problems: list[str] = []
    of_adapter: list[str] = []
    adapter = collect(of_adapter, lambda: _adapter(run, adapter_path, number)) if adapter_path is not None else None
    problems += [f"{key}.adapter={adapter_path}: {problem}" for problem in of_adapter]
    model = collect(problems, lambda: locate(name, f"{key}.path"))
    own = collect(problems, lambda: load_tokenizer(model, None, needs_template=False)) if model else None
    if model is None or own is None:
        raise ModelError("teacher", problems)
    of_model = run.sampler.model_problems(read_config(model), with_adapter=adapter_path is not None)
    of_model += filter(None, [tokenizer_problem(tokenizer, own)])
    teacher = Teacher(
        model=model,
        name=name,
        base=Policy(version=0, fingerprint=fingerprint(model)),
        adapter=adapter,
        adapter_path=adapter_path,
        families=families,
        context_tokens=_context(model),
        warnings=tuple(_template_warnings(run, tokenizer, own, f"{key}.path={name}")),
    )
    problems += [f"{key}.path={name}: {problem}" for problem in of_model]
    if adapter is not None:
        problems += [f"{key}.adapter={adapter_path}: {one}" for one in run.sampler.adapter_problems(adapter.config)]
    if problem := _adapter_problem(teacher):
        problems.append(f"{key}.adapter={adapter_path}: {problem}; give its base model in {key}.path")
    if problems:
        raise ModelError("teacher", problems)
    return teacher


def _adapter(run: RunConfig, path: str, number: int) -> Adapter:
    """Return the adapter at a path; of a resumed run, the copy in its folder, or in its copy in storage.

    Raises:
        ModelError: There is none, or it is damaged.
    """
    kept = f"{FOLDER}/{number}"
    if run.resume is None or not (place := Place(run.resume)).holds(f"{kept}/{CONFIG}"):
        return load_adapter(Path(path))
    with temporary_folder("teacher") as folder:
        for file in (CONFIG, TENSORS):
            place.get(f"{kept}/{file}", folder / file)
        return load_adapter(folder)


def save_teachers(run_folder: Path, teachers: Sequence[Teacher]) -> None:
    """Copy the adapters into the run folder.

    Raises:
        WriteError: The disk is full or cannot be written.
    """
    for number, teacher in enumerate(teachers):
        if teacher.adapter is None:
            continue
        folder = run_folder / FOLDER / str(number)
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            (folder / CONFIG).write_text(json.dumps(dict(teacher.adapter.config), indent=2) + "\n")
            (folder / TENSORS).write_bytes(teacher.adapter.tensors)


def tokenizer_problem(student: PreTrainedTokenizerBase, teacher: PreTrainedTokenizerBase) -> str:
    """Return why a teacher cannot read the student's token ids, or an empty text.

    Compares the vocabularies and the named special tokens, except the padding token.
    """
    ours, theirs = student.get_vocab(), teacher.get_vocab()
    different = sorted(token for token in ours.keys() | theirs.keys() if ours.get(token) != theirs.get(token))
    if different:
        shown = ", ".join(
            f"{token!r} (student {_id(ours, token)}, teacher {_id(theirs, token)})"
            for token in different[:MAX_SHOWN_TOKENS]
        )
        more = ", ..." if len(different) > MAX_SHOWN_TOKENS else ""
        return (
            f"it has another tokenizer than the student: {len(different):,} tokens of {len(ours | theirs):,} differ in "
            f"their id, such as {shown}{more}; use a teacher of the student's model family"
        )
    special, of_teacher = student.special_tokens_map, teacher.special_tokens_map
    names = sorted(
        name
        for name in special.keys() | of_teacher.keys()
        if name != NOT_COMPARED and special.get(name) != of_teacher.get(name)
    )
    if not names:
        return ""
    shown = ", ".join(f"{name} (student {special.get(name)!r}, teacher {of_teacher.get(name)!r})" for name in names)
    return (
        f"it has other special tokens than the student: {shown}; use a teacher that ends its turns like the student, "
        "such as an instruct variant for an instruct variant"
    )


def require_room(teachers: Sequence[Teacher], longest_prompt_tokens: int, max_completion_tokens: int) -> None:
    """Refuse teachers whose context is shorter than the sequences that they must score.

    Raises:
        ModelError: One is shorter.
    """
    needed = scored_tokens(longest_prompt_tokens, max_completion_tokens)
    problems = [
        f"{teacher.key}.path={teacher.name}: sees {teacher.context_tokens} tokens, and must see {needed}: the longest "
        f"prompt of {longest_prompt_tokens}, sampler.max_completion_tokens={max_completion_tokens} and 1 more; "
        "lower sampler.max_completion_tokens, or leave out long prompts"
        for teacher in teachers
        if teacher.context_tokens is not None and teacher.context_tokens < needed
    ]
    if problems:
        raise ModelError("teacher", problems)


def scored_tokens(longest_prompt_tokens: int, max_completion_tokens: int) -> int:
    """Return the context that an engine needs to score prompts with completions; vLLM samples one token more."""
    return longest_prompt_tokens + max_completion_tokens + 1


def teacher_facts(teachers: Sequence[Teacher]) -> dict[str, Any]:
    """Return the entries of the manifest: `teacher`, or `teachers` by family; none without a teacher."""
    if any(teacher.families for teacher in teachers):
        return {"teachers": {family: teacher.facts for teacher in teachers for family in teacher.families}}
    return {"teacher": teachers[0].facts} if teachers else {}


def teacher_changes(teachers: Sequence[Teacher], begun: Mapping[str, Any]) -> list[str]:
    """Return the parts of the teachers that have changed since a run began.

    Args:
        teachers: The teachers now.
        begun: The manifest of the run.
    """
    changed = []
    for teacher in teachers:
        before = begun.get("teachers", {}).get(teacher.families[0]) if teacher.families else begun.get("teacher")
        if before is None:
            continue
        now = teacher.facts
        if now["fingerprint"] != before["fingerprint"]:
            changed.append(f"{teacher.key}.path ({teacher.name})")
        if now.get("adapter", {}).get("fingerprint") != before.get("adapter", {}).get("fingerprint"):
            changed.append(f"{teacher.key}.adapter ({teacher.adapter_path})")
    return changed


def _id(vocabulary: Mapping[str, int], token: str) -> str:
    return str(vocabulary.get(token, "none"))


def _context(model: Path) -> int | None:
    try:
        return context_tokens(model)
    except ModelError:  # a model may not contain its limit; the student's is then configured
        return None


def _adapter_problem(teacher: Teacher) -> str:
    """Return why an adapter does not belong to the teacher's model, or an empty text."""
    if teacher.adapter is None or teacher.adapter_path is None:
        return ""
    folder = run_folder_of(Path(teacher.adapter_path))
    trained_on = base_fingerprint(folder) if folder is not None else None
    if trained_on not in (None, teacher.base.fingerprint):
        return (
            f"it was trained on a base model with the fingerprint {trained_on}, and {teacher.name} has "
            f"{teacher.base.fingerprint}"
        )
    return base_problem(teacher.adapter.tensors, read_weights(teacher.model).tensors)


def _template_warnings(
    run: RunConfig, student: PreTrainedTokenizerBase, teacher: PreTrainedTokenizerBase, where: str
) -> list[str]:
    """Return a warning if the teacher knows prompts in another chat template."""
    if run.data.format != "chat" or teacher.chat_template in (None, student.chat_template):
        return []
    return [
        f"{where}: the teacher has another chat template than the student (model.chat_template), so it "
        "scores prompts of a form that it may not know"
    ]
