"""Recipes: how a network is trained, as plain values.

`Recipe` holds the fields of every training, and `RunRecipe` adds those of trainings on images:
augmentation, mixing of images and averaging of weights. `recipes.toml` has the named recipes; a
file or the command line changes single fields of them.
"""

from __future__ import annotations

import inspect
import math
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, asdict, dataclass, fields, replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from genets.core.changes import parse_change
from genets.core.errors import GenetsError, SettingsError, first_line, shown, unknown_name
from genets.core.validation import check_fields, from_plain

if TYPE_CHECKING:
    from genets.data import Augmentation


REFERENCE_BATCH = 256
AUTO = "auto"  # the value of a field that is decided before the training
MAX_COUNT = 10**9  # epochs of a run, and images in a step
MAX_LENGTHENED = 200  # epochs up to which a run is lengthened
MAX_JITTER = 10  # a larger change leaves only noise
FIXED_POLICIES = ("original", "v0", "3a")  # timm's, which need no check that imports PyTorch

Count = Annotated[int, Field(gt=0, le=MAX_COUNT)]
NotNegativeCount = Annotated[int, Field(ge=0, le=MAX_COUNT)]
NotNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
ShareBelow1 = Annotated[float, Field(ge=0, lt=1)]
Area = Annotated[float, Field(gt=0, le=1)]
Rate = Annotated[float, Field(gt=0)]


@dataclass(frozen=True, slots=True)
class Recipe:
    """SGD with Nesterov momentum, warm-up and cosine decay (paper, section 5), or AdamW.

    Attributes:
        epochs: Passes over the training split.
        batch_size: Images in a step.
        learning_rate: The peak for 256 images in a step; it grows linearly with the batch size.
        optimizer: `sgd`, or `adamw` (Loshchilov and Hutter 2019).
        momentum: Nesterov momentum, where 0 is plain SGD; the first beta of AdamW.
        weight_decay: Applies to every parameter, as in the paper.
        decay_norm_and_bias: False restricts the weight decay to parameters with two or more
            dimensions.
        warmup_epochs: The time during which the learning rate rises linearly; may be a fraction.
        label_smoothing: The share of the true label that is spread over all classes.
        soft_label_weight: The share of the loss that follows the teacher, where there is one. The
            paper weights soft and true labels 1:1.
        class_weights: How much an image counts in the loss with the true labels. `none`: all
            images count the same. `balanced`: all classes count the same, because an image of a
            class with n of N images counts N / (classes x n). The teacher's part of the loss has
            no weights.
        norm_statistics: `batch` trains batch norm with the statistics of each batch. `frozen`
            leaves the statistics as they are, which suits trained weights and few images: in few
            steps, the running statistics do not follow the weights.
        precision: `fp32`, or `bf16` for autocast.

    Raises:
        GenetsError: A field is out of range.
    """

    epochs: Count
    batch_size: Count = 64
    learning_rate: Rate = 0.1
    optimizer: Literal["sgd", "adamw"] = "sgd"
    momentum: ShareBelow1 = 0.9
    weight_decay: NotNegative = 4e-5
    decay_norm_and_bias: bool = True
    warmup_epochs: NotNegative = 0.0
    label_smoothing: ShareBelow1 = 0.1
    soft_label_weight: Share = 0.5
    class_weights: Literal["none", "balanced"] = "none"
    norm_statistics: Literal["batch", "frozen"] = "batch"
    precision: Literal["fp32", "bf16"] = "fp32"

    def __post_init__(self) -> None:
        check_fields(self)
        if self.warmup_epochs >= self.epochs:
            raise GenetsError(
                f"warmup_epochs must be less than epochs ({self.epochs}), not {self.warmup_epochs}"
            )

    @property
    def peak_rate(self) -> float:
        """The highest learning rate, for this batch size. It must be decided."""
        assert isinstance(self.learning_rate, float)
        return self.learning_rate * self.batch_size / REFERENCE_BATCH


def lr_at(step: int, steps: int, recipe: Recipe) -> float:
    """The learning rate of one step.

    It rises linearly from peak / (warm-up steps + 1) at the first step, and then falls along half
    a cosine from the peak towards 0.

    Args:
        step: The number of the step, from 0.
        steps: The number of steps of the whole training.
        recipe: The recipe.
    """
    warmup = min(round(steps * recipe.warmup_epochs / recipe.epochs), steps - 1)
    if step < warmup:
        return recipe.peak_rate * (step + 1) / (warmup + 1)
    progress = (step - warmup) / (steps - warmup)
    return recipe.peak_rate * 0.5 * (1 + math.cos(math.pi * progress))


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecipe(Recipe):
    """A `Recipe` with the fields that only trainings on images use; timm implements them.

    Data sets that draw their own images (digits) have their own disturbances, which replace
    crop_area, flip, colour_jitter, auto_augment and erase.

    Attributes:
        least_steps: `genets train` with few images has more epochs than `epochs`, up to 200, until
            it takes this many steps; the warm-up keeps its share of the epochs. 0: the epochs do
            not change.
        mixup: The alpha of mix-up; a larger value mixes more, and 0 switches it off. With mixup
            and cutmix both, they take turns.
        cutmix: The alpha of CutMix, in the same way.
        crop_area: The smallest and largest share of the image that a random crop shows.
        flip: The probability of a left-right flip.
        colour_jitter: The largest change of brightness, contrast and saturation; auto_augment
            replaces it.
        auto_augment: timm's name of a policy (`original` is AutoAugment, `rand-m9-mstd0.5` is
            RandAugment); empty for none.
        erase: The probability of random erasing.
        ema_decay: The decay of the moving average of the weights; 0 is no average. The average is
            then scored and saved. It warms up, so that short runs forget their beginning.
        learning_rate: As in `Recipe`, or `auto`: short trainings with several rates decide it, by
            the cross-entropy on the validation images (see `variants`).
        norm_statistics: As in `Recipe`, or `auto`, which is decided together with the rate.
        precision: `fp32`, `bf16`, or `auto`, which a run or a search replaces when it begins: bf16
            where its GPUs compute it, otherwise fp32.
        linear_start: Whether the classifier starts as a linear model of the features that the
            starting weights compute (see `linear_start`). The network with this classifier counts
            as the result of epoch 0, which is kept if no later result is better on the validation
            images. In a search, the result is the end of the training unless epoch 0 is better;
            with fewer than 200 validation images, it must be better by top-1 and by cross-entropy.
        channels_last: Whether weights and images are laid out with the channels last.
        compile: Whether the network runs through torch.compile.

    Raises:
        GenetsError: A field is out of range.
    """

    least_steps: NotNegativeCount = 0
    mixup: NotNegative = 0.0
    cutmix: NotNegative = 0.0
    crop_area: tuple[Area, Area] = (0.08, 1.0)
    flip: Share = 0.5
    colour_jitter: Annotated[float, Field(ge=0, le=MAX_JITTER)] = 0.4
    auto_augment: str = ""
    erase: Share = 0.0
    ema_decay: ShareBelow1 = 0.0
    learning_rate: Rate | Literal["auto"] = 0.1  # type: ignore[assignment]
    norm_statistics: Literal["batch", "frozen", "auto"] = "batch"  # type: ignore[assignment]
    precision: Literal["auto", "fp32", "bf16"] = "auto"  # type: ignore[assignment]
    linear_start: bool = False
    channels_last: bool = True
    compile: bool = False

    def __post_init__(self) -> None:
        Recipe.__post_init__(self)  # super() does not work in a dataclass with slots
        if self.crop_area[0] > self.crop_area[1]:
            raise GenetsError(f"crop_area must be ascending, not {shown(self.crop_area)}")
        if (self.mixup or self.cutmix) and self.batch_size % 2:
            raise GenetsError(
                f"batch_size must be even for mixup and cutmix, which mix pairs, "
                f"not {self.batch_size}"
            )
        if self.auto_augment and self.auto_augment not in FIXED_POLICIES:
            try:
                self.augmentation().training_transform(32)
            except (AssertionError, ValueError, KeyError) as error:
                raise GenetsError(
                    f"auto_augment must be a policy of timm (original, v0, 3a, rand-... or "
                    f"augmix-...) or empty, not {shown(self.auto_augment)}"
                ) from error

    def augmentation(self) -> Augmentation:
        """The augmentation of single images."""
        from genets.data import Augmentation  # imports PyTorch

        return Augmentation(
            **{each.name: getattr(self, each.name) for each in fields(Augmentation)}
        )

    def mixing(self, num_classes: int) -> Any | None:
        """timm's mix-up, or None where the recipe has neither mixup nor cutmix.

        It maps images (N, C, H, W) and labels (N,) to images and probabilities (N, classes). It
        draws from numpy's global generator, and mixes the images in place.
        """
        if not (self.mixup or self.cutmix):
            return None
        from timm.data.mixup import Mixup

        # The loss smooths the labels, which does the same to probabilities.
        mixup: Any = Mixup  # has no types
        return mixup(self.mixup, self.cutmix, label_smoothing=0.0, num_classes=num_classes)


FIELDS = tuple(field.name for field in fields(RunRecipe))
DEFAULTS = {each.name: each.default for each in fields(RunRecipe) if each.default is not MISSING}


def with_all_fields(recipe: Recipe) -> RunRecipe:
    """A recipe with all fields; those that a plain `Recipe` lacks have their defaults."""
    return recipe if isinstance(recipe, RunRecipe) else RunRecipe(**asdict(recipe))


def describe_fields() -> dict[str, str]:
    """The description of each field of `RunRecipe`, from the docstrings."""
    texts: dict[str, str] = {}
    for owner in (Recipe, RunRecipe):
        section = inspect.cleandoc(owner.__doc__ or "").partition("\nAttributes:")[2]
        for entry in re.split(r"\n    (?=\w)", section.partition("\n\n")[0]):
            name, _, text = entry.partition(": ")
            texts[name] = " ".join(text.split())
    return {name: texts.get(name, "") for name in FIELDS}


def describe_unused(data: str, *recipes: RunRecipe) -> str:
    """Say which fields of recipes have no effect; empty for none.

    data: The name of a data set that draws its own images.
    """
    names = ("auto_augment", "erase")
    unused = [name for name in names if any(getattr(recipe, name) for recipe in recipes)]
    if not unused:
        return ""
    verb = "is" if len(unused) == 1 else "are"
    return f"{data} has its own disturbances, so {' and '.join(unused)} {verb} unused"


@cache
def recipes() -> Mapping[str, Mapping[str, Any]]:
    """The named recipes: for each name, the fields that differ from the defaults of `RunRecipe`."""
    text = files(__package__).joinpath("recipes.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


def named_recipe(name: str) -> dict[str, Any]:
    """The fields of a named recipe that differ from the defaults of `RunRecipe`.

    Raises:
        SettingsError: No recipe has this name; the message has the nearest names.
    """
    if name not in recipes():
        raise SettingsError(unknown_name("recipe", name, recipes()))
    return dict(recipes()[name])


def full_recipe(name: str) -> dict[str, Any]:
    """All fields of a named recipe. Raises SettingsError; see `named_recipe`."""
    return {**DEFAULTS, **named_recipe(name)}


def make_recipe(values: Mapping[str, Any]) -> RunRecipe:
    """Make a recipe from its fields, as TOML or JSON has them.

    Raises:
        GenetsError: A field is unknown, missing or out of range.
    """
    return from_plain(RunRecipe, dict(values), kind="recipe field", raises=SettingsError)


# The warm-up follows another number of epochs by one of three rules:
# - `apply_changes` and `lengthened`, where a recipe is changed: it keeps its share of the epochs;
# - `with_fewer_epochs`, where a training is shortened: it keeps its length, up to half the epochs;
# - `fitting_warmup`, where both numbers are given: it keeps its length if it fits.


def with_fewer_epochs(recipe: RunRecipe, epochs: int) -> RunRecipe:
    """Shorten a training. The warm-up keeps its length, but takes at most half of the epochs."""
    return replace(recipe, epochs=epochs, warmup_epochs=min(recipe.warmup_epochs, epochs / 2))


def enough_epochs(epochs: int, least_steps: int, images: int, batch_size: int) -> int:
    """The epochs in which a training takes `least_steps` steps, at least `epochs`.

    Only a given number of epochs is above `MAX_LENGTHENED`.

    Args:
        epochs: The number of epochs, which may have fewer steps.
        least_steps: The least number of steps.
        images: The number of training images.
        batch_size: The images in a step.
    """
    needed = -(-least_steps // max(1, images // batch_size))
    return max(epochs, min(MAX_LENGTHENED, needed))


def lengthened(recipe: RunRecipe, images: int) -> RunRecipe:
    """The recipe with the epochs in which `images` images give its least number of steps."""
    epochs = enough_epochs(recipe.epochs, recipe.least_steps, images, recipe.batch_size)
    if epochs == recipe.epochs:
        return recipe
    warmup = recipe.warmup_epochs * epochs / recipe.epochs
    return replace(recipe, epochs=epochs, warmup_epochs=warmup)


def fitting_warmup(warmup_epochs: float, epochs: float) -> float:
    """The warm-up as it is, or half of the epochs where it does not fit into them."""
    return epochs / 2 if warmup_epochs >= epochs else warmup_epochs


def apply_changes(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Change fields of a recipe.

    Where the changes have `epochs`, the recipe has this number of epochs also with few images,
    unless the changes have `least_steps`, too. Without `warmup_epochs`, the warm-up keeps its share
    of the epochs.
    """
    values = {**base, **changes}
    if "epochs" in changes and "least_steps" not in changes:
        values.pop("least_steps", None)
    before, after = base.get("epochs"), changes.get("epochs")
    if "warmup_epochs" not in changes and before and isinstance(after, int) and after <= MAX_COUNT:
        values["warmup_epochs"] = base.get("warmup_epochs", 0.0) * after / before
    return values


def read_recipe_file(path: str | Path) -> dict[str, Any]:
    """Read fields of a recipe from a TOML file, which may omit any of them.

    Raises:
        SettingsError: The file cannot be read or is not valid TOML.
    """
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"cannot read recipe {path}: {error}") from error
    except (ValueError, RecursionError) as error:
        raise SettingsError(f"recipe {path} is not valid TOML: {first_line(error)}") from error


def parse_changes(texts: Iterable[str]) -> dict[str, Any]:
    """Parse changes such as `epochs=10`; see `parse_change`.

    Raises:
        SettingsError: A text is not of the form NAME=VALUE, or its name is no field.
    """
    changes: dict[str, Any] = {}
    for text in texts:
        name, value = parse_change(text)
        if name not in FIELDS:
            raise SettingsError(unknown_name("recipe field", name, FIELDS))
        changes[name] = value
    return changes
