"""Variants of a recipe: the values that are tried for its fields that are `auto`.

No learning rate suits all starting weights. Published ImageNet weights lose their knowledge at a
rate that weak weights need, and their batch norm keeps its statistics, while weights that change a
lot need new ones; `docs/training.md` has figures. So `short_trainings` tries several values.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from statistics import fmean
from typing import Annotated, Any, Literal

from pydantic import Field

from genets.core.errors import TrainingError
from genets.core.validation import check_fields, from_plain
from genets.training.recipe import AUTO, RunRecipe

# For 256 images in a step. Each rate is about three times the one before.
RATES: dict[str, tuple[float, ...]] = {
    "adamw": (8e-4, 2.4e-3, 8e-3, 2.4e-2, 8e-2),
    "sgd": (0.012, 0.04, 0.12, 0.4, 1.2),
}
# The rates that are tried where both fields are auto. Frozen statistics of batch norm do not fit
# weights that the largest rates change.
OF_FROZEN, OF_BATCH = slice(3), slice(2, None)
AUTO_FIELDS = ("learning_rate", "norm_statistics")


@dataclass(frozen=True, slots=True)
class Variant:
    """The fields that a short training tried.

    Attributes:
        learning_rate: As in `RunRecipe`.
        norm_statistics: As in `RunRecipe`.
        cross_entropy: On the validation images; None where the training failed.
    """

    learning_rate: Annotated[float, Field(gt=0)]
    norm_statistics: Literal["batch", "frozen"]
    cross_entropy: Annotated[float, Field(ge=0)] | None = None

    def __post_init__(self) -> None:
        check_fields(self)

    def __str__(self) -> str:
        return f"learning_rate {self.learning_rate:g} and norm_statistics {self.norm_statistics}"

    def of(self, recipe: RunRecipe) -> RunRecipe:
        """The recipe with these fields."""
        return replace(
            recipe, learning_rate=self.learning_rate, norm_statistics=self.norm_statistics
        )


def is_decided(recipe: RunRecipe) -> bool:
    """Whether the recipe has no field that short trainings decide."""
    return all(getattr(recipe, name) != AUTO for name in AUTO_FIELDS)


def variants_of(recipe: RunRecipe) -> list[Variant]:
    """The variants of a recipe that are tried; one for a recipe that is decided."""
    rates, given, norm = RATES[recipe.optimizer], recipe.learning_rate, recipe.norm_statistics
    both: dict[Any, tuple[float, ...]] = {"frozen": rates[OF_FROZEN], "batch": rates[OF_BATCH]}
    if norm != AUTO:
        both = {norm: rates}
    return [
        Variant(rate, name)
        for name, some in both.items()
        for rate in (some if isinstance(given, str) else (given,))
    ]


def middle_rate(optimizer: str) -> float:
    """The middle one of the rates that are tried."""
    rates = RATES[optimizer]
    return rates[len(rates) // 2]


def name_variants(recipe: RunRecipe) -> str:
    """The number of variants and the fields in which they differ, in words."""
    names = [name for name in AUTO_FIELDS if getattr(recipe, name) == AUTO]
    return f"{len(variants_of(recipe))} variants of {' and '.join(names)}"


def describe_variants(tried: Sequence[Variant]) -> str:
    """Say which variant is the best one of several."""
    return f"the best of {len(tried)} short trainings had {best_variant(tried)}"


def read_variants(rows: Any) -> list[Variant]:
    """Read stored variants. Raises GenetsError or ValueError where they are damaged."""
    tried = [from_plain(Variant, row) for row in rows]
    best_variant(tried)
    return tried


def join_folds(folds: Sequence[Sequence[Variant]]) -> list[Variant]:
    """The mean of each variant over folds of equal variants; a failure in a fold is a failure.

    Raises:
        TrainingError: Each variant failed in a fold.
    """
    joined = [
        replace(each[0], cross_entropy=_mean([variant.cross_entropy for variant in each]))
        for each in zip(*folds, strict=True)
    ]
    if all(each.cross_entropy is None for each in joined):
        raise TrainingError("each short training failed in a fold; give a lower learning_rate")
    return joined


def _mean(values: Sequence[float | None]) -> float | None:
    finite = [value for value in values if value is not None]
    return fmean(finite) if len(finite) == len(values) else None


def best_variant(tried: Sequence[Variant]) -> Variant:
    """The variant with the lowest cross-entropy. Raises ValueError where none has a score."""
    scored = [each for each in tried if each.cross_entropy is not None]
    if not scored:
        raise ValueError("no short training has a score")
    return min(scored, key=attrgetter("cross_entropy"))
