"""The forecast of a sampler against the peak of its process, on the CPU."""

from __future__ import annotations

from pathlib import Path

import memory_forecast
import pytest
from harness import models
from harness.sampler_memory import ENGINES

pytestmark = [pytest.mark.e2e, pytest.mark.full]

MB = 10**6


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", ["quickstart", "135M"])
def test_the_forecast_is_close_to_the_peak(tmp_path: Path, engine: str, name: str) -> None:
    if shape := memory_forecast.CASES[name].shape:
        models.make_random(tmp_path / "model", shape)
    measured = memory_forecast.measure_apart(engine, name, tmp_path)
    forecast, peak = sum(measured["parts"].values()), measured["peak"]
    tolerance = max(0.15 * peak, 20 * MB) if name == "quickstart" else 0.15 * peak
    assert forecast == pytest.approx(peak, abs=tolerance)
