"""How reports write conditions, targets, latencies, scores and durations."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from genets.core.errors import counted
from genets.training.score import Metric, Score, metric_score, shown_metrics

if TYPE_CHECKING:  # `genets zoo` prints tables without PyTorch
    from genets.analysis import ComparisonRow
    from genets.latency import Measurement, Target
    from genets.nas.accuracy.model import Prediction
    from genets.nas.study.records import TrainedCandidate
    from genets.training.predictions import PairedDifference

# The meaning of the words that stand beside latencies, by word.
NOISE_TEXTS = {
    "noisy": "an end of the 95 % interval is more than 1 % away from the median",
    "disturbed": "something else used or slowed the device during the measurement",
}
SCORE_UNITS = {metric: "%" if metric.is_share else "nats" for metric in Metric}
GAIN_UNITS = {
    metric: f"{'percentage points' if metric.is_share else 'nats'} of {metric.label}"
    for metric in Metric
}


def conditions(rows: Iterable[ComparisonRow], date: str = "") -> dict[str, str]:
    """Device, engines, precisions, batch sizes, threads, protocol, versions; date if known."""
    rows = list(rows)
    environments = [r.measurement.environment for r in rows if r.measurement]
    targets = [row.target for row in rows]
    packages = {f"{name} {number}" for e in environments
                for name, number in (e.get("packages") or {}).items() if number}  # fmt: skip
    facts = {
        "device": _joined(
            f"{e.get('device_name')} ({e.get('capability')})" for e in environments
        ) or _joined(t.device for t in targets),
        "driver": _joined(e.get("driver") for e in environments),
        "engine": _joined(t.engine for t in targets),
        "provider": _joined(t.provider for t in targets),
        "precision": _joined(t.precision for t in targets),
        "batch size": _joined(sorted({t.batch_size for t in targets})),
        "threads": _joined(t.threads for t in targets),
        "protocol": _joined(r.measurement.protocol for r in rows if r.measurement),
        "versions": _joined(sorted(packages)),
        "system": _joined(e.get("system") for e in environments),
        "date": date,
    }  # fmt: skip
    return {name: value for name, value in facts.items() if value}


def short_conditions(rows: Iterable[ComparisonRow], date: str) -> str:
    """Device, protocol, versions and date on one line, for a picture."""
    facts = conditions(rows, date)
    return ", ".join(facts[name] for name in ("device", "protocol", "versions", "date")
                     if name in facts)  # fmt: skip


def refused_sentence(refused: Mapping[str, str]) -> str:
    """Say which of several budgets are not met. refused: the reason, by budget."""
    reasons = " and ".join(f"{budget} ({reason})" for budget, reason in refused.items())
    noun = "budget is" if len(refused) == 1 else "budgets are"
    return f"{len(refused)} {noun} not met: {reasons}"


def ms_text(ms_per_image: float) -> str:
    return f"{ms_per_image:.4g} ms per image"


def interval_text(measurement: Measurement) -> str:
    """The 95 % interval in ms per image, and the words for its noise."""
    low, high = measurement.low_ms_per_image, measurement.high_ms_per_image
    words = noise_words(measurement)
    return f"{low:.4g} to {high:.4g}" + (f", {words}" if words else "")


def accuracy_name(target: Target) -> str:
    """The name of published accuracies; an INT8 network has another accuracy than published."""
    return "published FP top-1" if target.precision == "int8" else "published top-1"


def describe_target(target: Target) -> str:
    """A target in words, such as `cpu, torch, fp32, batch 64, 2 threads`."""
    return describe_setting(target, f"batch {target.batch_size}")


def describe_setting(target: Target, *more: str) -> str:
    """A target in words without its batch size."""
    threads = [] if target.threads is None else [counted(target.threads, "thread")]
    provider = [] if target.provider is None else [target.provider]
    words = [target.device, target.engine, *provider, target.precision, *more, *threads]
    return ", ".join(words)


def score_text(score: float | None, metric: Metric) -> str:
    """A score with its digits, such as `80.12%` or `0.4567`; a dash for None."""
    if score is None:
        return "-"
    return f"{score:.2%}" if metric.is_share else f"{score:.4f}"


def unit_text(score: float, metric: Metric) -> str:
    """A score in the unit of `SCORE_UNITS`, with as many decimals as `score_text` has."""
    return f"{score:.2f}" if metric.is_share else f"{score:.4f}"


def in_unit(score: float, metric: Metric) -> float:
    """A score, or a difference of scores, in the unit of `SCORE_UNITS`."""
    return 100 * score if metric.is_share else score


def predicted_score(value: float, metric: Metric) -> float:
    """A predicted value, of which more is better, as a score in the unit of `SCORE_UNITS`."""
    return in_unit(metric.oriented(value), metric)


def share_text(share: float, images: int, decimals: int) -> str:
    """A share of images in percent with its 95 % interval, such as `0.0 (0.0 to 16.1)`."""
    from genets.training.predictions import share_interval

    values = (share, *share_interval(round(share * images), images))
    middle, low, high = (f"{100 * value:.{decimals}f}" for value in values)
    return f"{middle} ({low} to {high})"


def predicted_interval(prediction: Prediction, metric: Metric) -> tuple[float, float] | None:
    """The 95 % interval of a prediction as scores, the smaller first; None if it is not known."""
    if math.isnan(prediction.std):
        return None
    low, high = sorted(predicted_score(end, metric) for end in prediction.interval())
    return low, high


def noisy_score_text(score: Score | None, metric: Metric) -> str:
    """A score with its 95 % interval, such as `80.12 (78.19 to 81.92) %`, where it is known."""
    share = None if score is None else metric_score(score, metric)
    images = None if score is None else score.images_of(metric)
    if share is None or not metric.is_share or not images:
        return score_text(share, metric)
    return f"{share_text(share, max(1, round(images)), 2)} %"


def shown_by(deciding: Metric) -> tuple[Metric, ...]:
    """The metrics of a table of a study. deciding: the metric of the study."""
    return shown_metrics(balanced=deciding is Metric.BALANCED_ACCURACY)


def score_names(deciding: Metric, *, quantised: bool, prefix: str = "") -> list[str]:
    """The headers of the scores of a table: first before, then after quantisation.

    Args:
        deciding: The metric of the study.
        quantised: Whether the table has the scores after quantisation, too.
        prefix: Stands before each name, such as `test `.
    """
    names = [prefix + metric.label for metric in shown_by(deciding)]
    return names + [f"{name} in int8" for name in names] if quantised else names


def noisy_score_texts(score: Score | None, deciding: Metric, *, quantised: bool) -> list[str]:
    """The texts below `score_names`."""
    shown = [score, score and score.quantised] if quantised else [score]
    return [noisy_score_text(each, metric) for each in shown for metric in shown_by(deciding)]


def decided_in_int8(trained: Iterable[TrainedCandidate]) -> bool:
    """Whether candidates were compared by their scores after quantisation; see `best_first`."""
    done = [each for each in trained if each.status == "done"]
    return bool(done) and all(each.quantised is not None for each in done)


def difference_text(difference: PairedDifference) -> str:
    """A difference of top-1 with its 95 % interval.

    Such as `2.1 points less accurate (95 % interval -3.1 to -1.1 points)`.
    """
    # Adding 0.0 turns the -0.0 of a small negative number into 0.0.
    low, high = (f"{round(100 * end, 1) + 0.0:+.1f}" for end in (difference.low, difference.high))
    return f"{accuracy_words(difference.top1)} (95 % interval {low} to {high} points)"


def accuracy_words(top1: float) -> str:
    """A difference of top-1 in words."""
    points = f"{100 * abs(top1):.1f}"
    if float(points) == 0:
        return "as accurate"
    return f"{points} points {'more' if top1 > 0 else 'less'} accurate"


class HasNoise(Protocol):
    """A measured latency."""

    @property
    def noisy(self) -> bool: ...
    @property
    def disturbed(self) -> bool: ...


def noise_words(latency: HasNoise) -> str:
    """The words that stand beside a latency: `noisy`, `disturbed`, both or none."""
    words = {"noisy": latency.noisy, "disturbed": latency.disturbed}
    return ", ".join(word for word, holds in words.items() if holds)


def aligned_texts(values: Iterable[float | None], digits: int = 4) -> list[str]:
    """Numbers of a column with equally many decimals, of which the smallest has `digits` digits.

    None becomes a dash.
    """
    values = list(values)
    sizes = [abs(value) for value in values if value]
    decimals = max(0, digits - 1 - math.floor(math.log10(min(sizes)))) if sizes else 0
    return ["-" if value is None else f"{value:.{decimals}f}" for value in values]


def duration_text(seconds: float) -> str:
    """A duration such as `45 s`, `12 min 05 s` or `3 h 07 min`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"


def _joined(values: Iterable[Any]) -> str:
    return ", ".join(dict.fromkeys(str(value) for value in values if value is not None))


def folds_text(folds: int) -> str:
    """How scores were made with more than one fold."""
    return f"cross-validated in {folds} folds"


def scored_images_text(folds: int) -> str:
    """The images on which a search scores trials and candidates.

    Args:
        folds: The number of folds; 1 stands for the validation split.
    """
    if folds == 1:
        return "the validation images"
    return f"the training images, {folds_text(folds)}"
