"""How a study's predicted values are shown: top-1 in percent, cross-entropy in nats."""

from __future__ import annotations

from dataclasses import dataclass

from genets.nas.accuracy.observations import Response


@dataclass(frozen=True, slots=True)
class Shown:
    """Values are top-1 from 0 to 1 or minus the cross-entropy; readers get neither.

    factor: from a value to what is shown. less_is_better: the axis is turned round then.
    gain_factor, gain_unit: for differences of values, of which more is always better.
    """

    name: str
    unit: str
    factor: float
    less_is_better: bool
    gain_factor: float
    gain_unit: str

    def score(self, value: float) -> float:
        return self.factor * value

    def spread(self, std: float) -> float:
        return abs(self.factor) * std

    def text(self, value: float, std: float | None) -> str:
        around = "" if std is None else f" ± {self.spread(std):.3g}"
        return f"{self.score(value):.4g}{around} {self.unit}"


SHOWN: dict[Response, Shown] = {
    "top1": Shown("top-1", "%", 100.0, False, 100.0, "percentage points of top-1"),
    "cross_entropy": Shown("cross-entropy", "nats", -1.0, True, 1.0, "nats of cross-entropy"),
}
