"""Recipes: how a network is trained, as plain values.

The recipe of a training run: augmentation and averaging beside what every training needs.

Recipes by name (`recipes.toml`), and changes to them from files and the command line.
"""

from __future__ import annotations

import math
import sys
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genets.core.errors import GenetsError, SettingsError, shown, unknown_name

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from genets.data import Augmentation


REFERENCE_BATCH = 256
PRECISIONS = ("fp32", "bf16")
MOST = 10**9  # epochs of a run, and images in a step
BELOW_1 = math.nextafter(1, 0)


@dataclass(frozen=True, slots=True)
class Recipe:
    """SGD with Nesterov momentum, warm-up and cosine decay (paper, section 5).

    epochs: passes over the training split.
    batch_size: images in a step.
    learning_rate: the peak for 256 images in a step; it grows linearly with the batch.
    momentum: Nesterov momentum; 0 is plain SGD.
    weight_decay: on every parameter, as in the paper, or, without
        `decay_norm_and_bias`, only on those with two or more dimensions.
    warmup_epochs: how long the rate rises linearly; may be a fraction.
    label_smoothing: share of the true label that is spread over all classes.
    soft_label_weight: share of the loss that follows the teacher, where there is one; the
        paper weights soft and true labels 1:1.
    precision: `fp32`, or `bf16` for autocast.
    """

    epochs: int
    batch_size: int = 64
    learning_rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 4e-5
    decay_norm_and_bias: bool = True
    warmup_epochs: float = 0.0
    label_smoothing: float = 0.1
    soft_label_weight: float = 0.5
    precision: str = "fp32"

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size"):
            self._check_count(name)
        self._check("learning_rate", math.ulp(0.0), math.inf, "above 0")
        self._check("weight_decay", 0, math.inf, "0 or above")
        for name in ("momentum", "label_smoothing"):
            self._check(name, 0, BELOW_1, "from 0 to below 1")
        self._check("soft_label_weight", 0, 1, "from 0 to 1")
        below_epochs = math.nextafter(self.epochs, 0)
        self._check("warmup_epochs", 0, below_epochs, f"from 0 to below epochs ({self.epochs})")
        self._check_flag("decay_norm_and_bias")
        if self.precision not in PRECISIONS:
            raise GenetsError(
                f"precision of training must be {' or '.join(PRECISIONS)}, "
                f"not {shown(self.precision)}"
            )

    def _check_count(self, name: str) -> None:
        value = getattr(self, name)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise GenetsError(f"{name} must be a positive integer, not {shown(value)}")
        if value > MOST:
            raise GenetsError(f"{name} must be at most {MOST}, not {shown(value)}")

    def _check(self, name: str, low: float, high: float, rule: str) -> None:
        value = getattr(self, name)
        number = isinstance(value, int | float) and not isinstance(value, bool)
        # No infinity, nor an integer that no float can hold.
        if not (number and low <= value <= min(high, sys.float_info.max)):
            raise GenetsError(f"{name} must be {rule}, not {shown(value)}")

    def _check_flag(self, name: str) -> None:
        if not isinstance(getattr(self, name), bool):
            raise GenetsError(f"{name} must be true or false, not {shown(getattr(self, name))}")

    @property
    def peak_rate(self) -> float:
        """The highest learning rate, for this batch size."""
        return self.learning_rate * self.batch_size / REFERENCE_BATCH


def lr_at(step: int, steps: int, recipe: Recipe) -> float:
    """The learning rate of step `step` (from 0) of `steps`.

    Linear warm-up from the first step's peak/(warm-up steps + 1), then a half cosine from the
    peak towards 0.
    """
    warmup = min(round(steps * recipe.warmup_epochs / recipe.epochs), steps - 1)
    if step < warmup:
        return recipe.peak_rate * (step + 1) / (warmup + 1)
    progress = (step - warmup) / (steps - warmup)
    return recipe.peak_rate * 0.5 * (1 + math.cos(math.pi * progress))


def loss_of(
    logits: Tensor, labels: Tensor, recipe: Recipe, teacher_logits: Tensor | None = None
) -> Tensor:
    """Mean cross-entropy against the true labels, mixed with the teacher's soft labels.

    logits, teacher_logits: (N, classes); labels: (N,), or probabilities (N, classes).
    """
    import torch
    import torch.nn.functional as F

    true = F.cross_entropy(logits, labels, label_smoothing=recipe.label_smoothing)
    if teacher_logits is None or recipe.soft_label_weight == 0:
        return true
    soft = F.cross_entropy(logits, teacher_logits.softmax(dim=1))
    return torch.lerp(true, soft, recipe.soft_label_weight)


def optimizer_of(net: nn.Module, recipe: Recipe) -> torch.optim.SGD:
    """SGD over the parameters that require gradients. Raises GenetsError if none does."""
    import torch

    trained = [p for p in net.parameters() if p.requires_grad]
    if not trained:
        raise GenetsError("the network has no parameter to train; all are frozen")
    groups: list[dict[str, Any]] = [{"params": trained}]
    if not recipe.decay_norm_and_bias:
        groups = [
            {"params": [p for p in trained if p.ndim >= 2]},
            {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
        ]
    return torch.optim.SGD(
        groups,
        lr=recipe.peak_rate,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
        nesterov=recipe.momentum > 0,
        fused=True,
    )


MOST_JITTER = 10  # beyond, images are noise


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecipe(Recipe):
    """A `Recipe`, and what only whole runs use; timm does the work of each.

    mixup, cutmix: the alpha of each (larger mixes more); 0 is none. With both they take turns.
    crop_area: smallest and largest share of the image that a random crop shows.
    flip: probability of a left-right flip.
    colour_jitter: largest change of brightness, contrast and saturation; auto_augment replaces it.
    auto_augment: timm's name of a policy (`original` is AutoAugment, `rand-m9-mstd0.5`); empty
        for none.
    erase: probability of random erasing.
    ema_decay: of the moving average of the weights, which is then what is scored and handed
        over; 0 is no average. It warms up, so that short runs forget their beginning.
    channels_last: the layout of weights and images in memory.
    compile: run the network through torch.compile.

    Sets of images that draw themselves (digits) have nuisance of their own in place of crop_area,
    flip, colour_jitter, auto_augment and erase.
    """

    mixup: float = 0.0
    cutmix: float = 0.0
    crop_area: tuple[float, float] = (0.08, 1.0)
    flip: float = 0.5
    colour_jitter: float = 0.4
    auto_augment: str = ""
    erase: float = 0.0
    ema_decay: float = 0.0
    channels_last: bool = True
    compile: bool = False

    def __post_init__(self) -> None:
        Recipe.__post_init__(self)  # super() does not work in a dataclass with slots
        for name in ("mixup", "cutmix"):
            self._check(name, 0, math.inf, "0 or above")
        self._check("colour_jitter", 0, MOST_JITTER, f"from 0 to {MOST_JITTER}")
        for name in ("flip", "erase"):
            self._check(name, 0, 1, "from 0 to 1")
        self._check("ema_decay", 0, BELOW_1, "from 0 to below 1")
        for name in ("channels_last", "compile"):
            self._check_flag(name)
        self._check_crop()
        self._check_policy()
        if (self.mixup or self.cutmix) and self.batch_size % 2:
            raise GenetsError(
                f"batch_size must be even for mixup and cutmix, which mix pairs, "
                f"not {self.batch_size}"
            )

    def _check_crop(self) -> None:
        area = self.crop_area
        numbers = isinstance(area, tuple | list) and len(area) == 2
        if not (numbers and all(_is_share(part) for part in area) and area[0] <= area[1]):
            raise GenetsError(
                f"crop_area must be two ascending shares from above 0 to 1, not {shown(area)}"
            )
        object.__setattr__(self, "crop_area", tuple(map(float, area)))

    def _check_policy(self) -> None:
        wrong = f"auto_augment must be a policy of timm or empty, not {shown(self.auto_augment)}"
        if not isinstance(self.auto_augment, str):
            raise GenetsError(wrong)
        if self.auto_augment:
            try:
                self.augmentation().training_transform(32)
            except (AssertionError, ValueError, KeyError) as error:
                known = "known are original, v0, 3a, rand-..., augmix-..."
                raise GenetsError(f"{wrong}; {known}") from error

    def augmentation(self) -> Augmentation:
        """What is done to single images."""
        from genets.data import Augmentation  # with PyTorch

        return Augmentation(
            crop_area=self.crop_area,
            flip=self.flip,
            colour_jitter=self.colour_jitter,
            auto_augment=self.auto_augment,
            erase=self.erase,
        )

    def mixing(self, num_classes: int) -> Any | None:
        """timm's mix-up: images and labels (N,) to images and probabilities (N, classes).

        It draws from numpy's global generator, and mixes the images in place.
        """
        if not (self.mixup or self.cutmix):
            return None
        from timm.data.mixup import Mixup

        # Smoothing is left to the loss, which does the same to probabilities.
        mixup: Any = Mixup  # has no types
        return mixup(self.mixup, self.cutmix, label_smoothing=0.0, num_classes=num_classes)


def _is_share(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= 1


FIELDS = tuple(field.name for field in fields(RunRecipe))


@cache
def recipes() -> Mapping[str, Mapping[str, Any]]:
    """By name the fields that differ from the defaults of `RunRecipe`."""
    text = files(__package__).joinpath("recipes.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


def named_recipe(name: str) -> dict[str, Any]:
    """The fields of a recipe. Raises SettingsError for an unknown name, with the nearest."""
    if name not in recipes():
        raise SettingsError(unknown_name("recipe", name, recipes()))
    return dict(recipes()[name])


def changed(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with these changes; other epochs alone shorten or lengthen the warm-up with them."""
    values = {**base, **changes}
    before, after = base.get("epochs"), changes.get("epochs")
    if "warmup_epochs" not in changes and before and isinstance(after, int) and after <= MOST:
        values["warmup_epochs"] = base.get("warmup_epochs", 0.0) * after / before
    return values


def make_recipe(values: Mapping[str, Any]) -> RunRecipe:
    """A recipe of these fields. Raises GenetsError: an unknown field, or a value out of range."""
    for name in values:
        if name not in FIELDS:
            raise SettingsError(unknown_name("field of a recipe", name, FIELDS))
    if "epochs" not in values:
        raise SettingsError("a recipe must say its epochs")
    return RunRecipe(**values)


def read_recipe_file(path: str | Path) -> dict[str, Any]:
    """Fields from a TOML file, which need not hold all of them. Raises SettingsError."""
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"cannot read recipe {path}: {error}") from error
    except ValueError as error:
        raise SettingsError(f"recipe {path} is not valid TOML: {error}") from error


def parse_changes(texts: Iterable[str]) -> dict[str, Any]:
    """`epochs=10` and the like; values are TOML, or plain text. Raises GenetsError."""
    changes: dict[str, Any] = {}
    for text in texts:
        name, equals, value = (part.strip() for part in text.partition("="))
        if not equals or not name:
            raise SettingsError(f"a change is written as epochs=10, not {text!r}")
        if name not in FIELDS:
            raise SettingsError(unknown_name("field of a recipe", name, FIELDS))
        changes[name] = _value(value)
    return changes


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (ValueError, KeyError):  # no TOML, or a number of more than 4300 digits
        return text
