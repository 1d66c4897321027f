"""Budget: the latency that the networks of a search must meet."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from genets.core.errors import TargetError, shown

DEFAULT_WAIT_MINUTES = 5.0  # the longest wait for a calm device, on which a budget is decided
UNITS = {"ms": 1.0, "us": 1e-3, "µs": 1e-3, "x": None}  # in ms; x: times the MasterNet
_EXAMPLES = "ms or us per image, or x (times the MasterNet), as in 0.2ms, 150us or 0.5x"
_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|[+-]?(?:nan|inf|infinity)"
_BUDGET = re.compile(rf"\s*({_NUMBER})\s*([^\s\d]*)\s*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Budget:
    """A latency limit, absolute or relative to the MasterNet.

    Args:
        amount: The limit in the unit; above 0 and finite.
        unit: `ms` for ms per image, or `x` for multiples of the MasterNet's latency.

    Raises:
        TargetError: The amount or the unit is wrong.
    """

    amount: float
    unit: str = "ms"

    def __post_init__(self) -> None:
        if self.unit not in ("ms", "x"):
            raise TargetError(f"unit of a budget must be ms or x, not {self.unit!r}")
        if not (math.isfinite(self.amount) and self.amount > 0):
            raise TargetError(f"budget must be above 0 and finite, not {self}")

    @classmethod
    def parse(cls, text: str) -> Budget:
        """Read a budget from text.

        Args:
            text: A number with a unit, such as `0.2ms`, `150us` or `0.5x`.

        Returns:
            The budget; `us` is converted to `ms`.

        Raises:
            TargetError: The text is no text, no number with a unit, or out of range.
        """
        if not isinstance(text, str):
            raise TargetError(f"budget must be a text such as 0.2ms, not {shown(text)}")
        match = _BUDGET.fullmatch(text)
        if match is None:
            raise TargetError(f"budget must be a number in {_EXAMPLES}, not {text!r}")
        number, unit = match.groups()
        if not unit:
            raise TargetError(f"budget {text!r} has no unit; give it in {_EXAMPLES}")
        if unit not in UNITS:
            raise TargetError(f"unknown unit {unit!r} in budget {text!r}; give it in {_EXAMPLES}")
        in_ms = UNITS[unit]
        amount = float(number) * (in_ms or 1.0)
        if not (math.isfinite(amount) and amount > 0):
            raise TargetError(f"budget must be above 0 and finite, not {text.strip()}")
        return cls(amount, "x" if in_ms is None else "ms")

    @property
    def is_relative(self) -> bool:
        """Whether the limit in ms depends on the MasterNet's measured latency."""
        return self.unit == "x"

    def ms_per_image(self, master_ms_per_image: float) -> float:
        """Return the limit in ms per image, given the MasterNet's measured latency."""
        return self.amount * master_ms_per_image if self.is_relative else self.amount

    def __str__(self) -> str:
        return f"{self.amount:.6g}{self.unit}"
