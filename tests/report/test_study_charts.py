"""The charts of the page of a study."""

import math

import pytest

from genets.report.study.charts import _shown_scores
from genets.training.score import Metric

NEAR = {"score": 0.5, "low": 0.4, "high": 0.7}


@pytest.mark.parametrize(
    ("points", "metric", "ends"),
    [
        ([NEAR, {"score": 3.0}], Metric.CROSS_ENTROPY, (0.4, math.log(10))),
        ([{**NEAR, "high": 8.0}], Metric.CROSS_ENTROPY, (0.4, math.log(10))),
        ([NEAR, {"score": 2.3}], Metric.CROSS_ENTROPY, None),
        ([{"score": 3.0}, {"score": 4.0}], Metric.CROSS_ENTROPY, None),
        ([{"score": 12.0}, {"score": 85.0}], Metric.TOP1, None),
    ],
)
def test_cross_entropies_above_a_random_guess_do_not_stretch_the_axis(points, metric, ends) -> None:
    assert _shown_scores(points, metric, num_classes=10) == ends
