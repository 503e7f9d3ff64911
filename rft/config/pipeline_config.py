"""The keys of a pipeline."""

from __future__ import annotations

from typing import Any

from rft.config.fields import Section


class PipelineConfig(Section):
    """A pipeline: `rft pipeline`. It also takes the keys of `rft train`, and passes them to every stage."""

    output_dir: str | None = None
    """Folder of the pipeline, with the run folders of the stages; null takes `runs/<name>/pipeline_<time>`."""
    resume: str | None = None
    """Folder of a pipeline to continue."""
    or_resume: bool = False
    """Whether to continue the pipeline in `output_dir` if it has begun; also as `--or-resume`."""
    dry_run: bool = False
    """Run every check that needs no start, print the plan of each stage and stop."""
    stages: dict[str, dict[str, Any]] = {}
    """The stages by name, in order: for each, keys of `rft train`, such as `{learner: sft, loop.steps: 40}`. Every
    stage but the first starts from the result of the one before."""
