"""Forecasts the memory of a run before anything is loaded, and chooses the sizes that depend on memory.

Read `run_forecast` first. The functions compute from the model's `config.json`, the headers of its weight files and the
run's configuration. They import neither torch nor vLLM.
"""

from __future__ import annotations

from rft.memory.device import Device
from rft.memory.forecast_records import Forecast, ProcessMemory, RunForecast
from rft.memory.model_shape import ModelShape, read_shape
from rft.memory.run_forecast import RunFacts, forecast_measurement, forecast_run
from rft.memory.sampler import SamplerFacts
from rft.memory.sizes import Sizes

__all__ = [
    "Device",
    "Forecast",
    "ModelShape",
    "ProcessMemory",
    "RunFacts",
    "RunForecast",
    "SamplerFacts",
    "Sizes",
    "forecast_measurement",
    "forecast_run",
    "read_shape",
]
