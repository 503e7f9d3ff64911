"""A learner on another node than the driver, whose checkpoints are copied to the run folder."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rft.cluster.file_transfer import ask, fetch, send
from rft.data.chat_templates import TEMPLATE_NAMES
from rft.errors import ClusterError
from rft.learning.checkpoints import CHECKPOINTS, damage, move_into_place, remove, unfinished_folder
from rft.learning.remote import RemoteLearner
from rft.learning.spec import LearnerSpec
from rft.reliability.durable import sync_tree, writing


class Mirror:
    """Copies the learner's part of the run folder from its node to this machine.

    Args:
        keeper: Of the learner's node.
        node_folder: The keeper's folder.
        run: Name of the run on the node.
        run_folder: The run folder on this machine.
        deadline_s: Seconds for each part of a file.
    """

    def __init__(self, keeper: Any, *, node_folder: str, run: str, run_folder: Path, deadline_s: float) -> None:
        self._keeper = keeper
        self._node_folder = Path(node_folder)
        self._there = f"runs/{run}"
        self._here = run_folder
        self._deadline_s = deadline_s
        self._seen: dict[str, tuple[int, int]] = {}

    async def move(self, spec: LearnerSpec) -> LearnerSpec:
        """Return the learner's spec for its node, after sending the files that the learner reads."""
        files: dict[str, Path] = {}
        there = self._node_folder / self._there
        changed: dict[str, Any] = {"run_folder": there}
        run = spec.run
        if (checkpoint := spec.resume_from) is not None:
            inside = f"checkpoints/{checkpoint.name}"
            files |= {
                f"{inside}/{file.relative_to(checkpoint).as_posix()}": file
                for file in checkpoint.rglob("*")
                if file.is_file()
            }
            changed["resume_from"] = there / inside
        template = run.model.chat_template
        if template is not None and template not in TEMPLATE_NAMES:
            files["chat_template.jinja"] = Path(template).expanduser()
            model = run.model.model_copy(update={"chat_template": str(there / "chat_template.jinja")})
            run = run.model_copy(update={"model": model})
        if (code := run.learner.user_file()) is not None:
            files[f"user/{code.name}"] = code
            run = run.model_copy(update={"learner": run.learner.with_user_file(there / "user" / code.name)})
        await send({self._there: self._keeper}, files, deadline_s=self._deadline_s)
        self._seen = await self._list()
        return replace(spec, run=run, **changed)

    async def bring_back(self) -> None:
        """Copy the new checkpoints here, each completely or not at all; remove deleted checkpoints.

        Raises:
            ClusterError: A checkpoint arrived damaged.
        """
        there = await self._list()
        new = {
            name for path, state in there.items() if (name := _checkpoint_of(path)) and self._seen.get(path) != state
        }
        for name in sorted(new):
            await self._bring(name, [path for path in there if _checkpoint_of(path) == name])
        self._seen = there
        kept = {_checkpoint_of(path) for path in there} - {None}
        for checkpoint in (self._here / CHECKPOINTS).glob("checkpoint-*"):
            if kept and checkpoint.name not in kept:
                remove(checkpoint)

    async def _bring(self, name: str, paths: Sequence[str]) -> None:
        """Copy a checkpoint aside, verify it, and move it to its place."""
        aside = unfinished_folder(self._here)
        with writing(aside):
            shutil.rmtree(aside, ignore_errors=True)
            for path in paths:
                inside = Path(path).relative_to(CHECKPOINTS)
                await fetch(self._keeper, f"{self._there}/{path}", aside / inside, deadline_s=self._deadline_s)
            if problems := damage(aside / name):
                raise ClusterError(f"{name} arrived damaged from the learner's node: {', '.join(problems)}")
            sync_tree(aside / name)
            move_into_place(aside / name, self._here / CHECKPOINTS / name)
            shutil.rmtree(aside)

    async def remove(self) -> None:
        """Remove the run's files from the node."""
        await ask([self._keeper.remove.remote([self._there])], what="the node to clean up", deadline_s=self._deadline_s)

    async def _list(self) -> dict[str, tuple[int, int]]:
        what = "the files of the learner's node"
        [files] = await ask([self._keeper.files.remote(self._there)], what=what, deadline_s=self._deadline_s)
        return dict(files)


class MirroredLearner(RemoteLearner):
    """A learner whose checkpoints count only after they are copied here.

    Args:
        mirror: Of the node of its first rank.
        specs: As `RemoteLearner`.
        options: As `RemoteLearner`.
    """

    def __init__(self, mirror: Mirror, specs: Sequence[LearnerSpec], **options: Any) -> None:
        super().__init__(specs, **options)
        self._mirror = mirror

    async def save(self) -> None:
        """Write a checkpoint and copy it here."""
        await super().save()
        await self._mirror.bring_back()


def _checkpoint_of(path: str) -> str | None:
    """Return the name of a file's checkpoint; None for a file outside of published checkpoints."""
    parts = Path(path).parts
    return parts[1] if len(parts) > 2 and parts[0] == CHECKPOINTS and parts[1].startswith("checkpoint-") else None
