"""rft: reinforcement fine-tuning that people trust.

    run = rft.train("experiment=quickstart", "loop.steps=20")
    run.summary["eval"]["difference"]

`import rft` imports nothing else. Each name is imported when it is used; `__init__.pyi` declares their types.
"""

import importlib

__version__ = "0.1.0"

_MODULES = {
    "Audit": "rft.api.audit",
    "Feasibility": "rft.api.feasibility",
    "Grading": "rft.api.grade",
    "Measurement": "rft.api.evaluate",
    "Pairs": "rft.api.pairs",
    "Parts": "rft.api.parts",
    "PipelineRun": "rft.api.pipeline",
    "Plan": "rft.run.forecast.plan",
    "Run": "rft.api.run",
    "audit": "rft.api.audit",
    "certify": "rft.api.certify",
    "check": "rft.api.check",
    "compare": "rft.api.compare",
    "continue_run": "rft.api.continue_run",
    "evaluate": "rft.api.evaluate",
    "feasibility": "rft.api.feasibility",
    "grade": "rft.api.grade",
    "open_run": "rft.api.run",
    "pairs": "rft.api.pairs",
    "parts": "rft.api.parts",
    "run_pipeline": "rft.api.pipeline",
    "sample": "rft.api.sample",
    "train": "rft.api.train",
    "verify": "rft.api.verify",
    "view": "rft.api.view",
}
"""Where each public name is defined."""

__all__ = ["__version__", *_MODULES]


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(importlib.import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
