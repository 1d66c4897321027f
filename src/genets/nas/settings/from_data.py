"""Settings that follow from the data: resolution, MasterNet and recipes of a new study.

The limits are conventions, except where a comment gives a reason. Every choice has its reason in
one line, and a given setting is never replaced.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from genets.core.errors import counted
from genets.core.image_facts import ImageSizes
from genets.nas.settings.presets import MASTER_TRAINING, PRESETS, TRAININGS
from genets.training.recipe import enough_epochs, named_recipe

# Usual input sizes, the largest of which is the usual one on ImageNet.
RESOLUTIONS = (16, 24, 32, 48, 64, 96, 128, 160, 192, 224)
# The strides of the GENets reduce an image 32 times, so a smaller image ends as a map of less than
# 3 x 3 values. `master_small` reduces it 16 times.
MIN_PHOTO_SIDE = 96
PHOTO_MASTER = "genet_light"
# From here on, the larger GENet, the paper's recipe for the winner, and no inherited weights
# without starting weights.
MANY_IMAGES = 100_000
FEW_IMAGES = 10_000  # below, batches of 256 images would leave few steps in an epoch
SMALL_BATCH = 64
FINE_TUNING = named_recipe("finetune")


@dataclass(frozen=True, slots=True)
class FromData:
    """Settings that follow from the data.

    Attributes:
        settings: Settings of a search, to be merged under the given ones.
        reasons: One line for each choice.
    """

    settings: Mapping[str, Any] = field(default_factory=dict)
    reasons: tuple[str, ...] = ()


def settings_from_data(
    sizes: ImageSizes,
    *,
    master: bool = True,
    resolution: int | None = None,
    recipes: bool = True,
    fine_tuning: bool = False,
    has_weights: bool = False,
) -> FromData:
    """Choose settings by the number and the size of the images.

    Args:
        sizes: The training images.
        master: Whether the MasterNet follows from the data; otherwise it is given.
        resolution: The given resolution; None where it follows from the data, or is that of the
            given MasterNet.
        recipes: Whether the recipes follow from the data.
        fine_tuning: Whether the recipes are those of the preset `photos`, of which only the epochs
            follow from the data.
        has_weights: Whether the MasterNet starts from pretrained weights. Then it is a GENet, for
            which published weights exist.
    """
    settings: dict[str, Any] = {}
    reasons: list[str] = []
    side = resolution or fitting_resolution(sizes.median_side)
    if master:
        if resolution is None:
            median = f"the median image has {sizes.median_side} pixels on its shorter side"
            if has_weights and side < MIN_PHOTO_SIDE:
                side = MIN_PHOTO_SIDE
                median += ", and pretrained GENets need more"
            settings["resolution"] = side
            reasons.append(f"resolution {side}: {median}")
        settings["master"], reason = _choose_master(sizes, side, has_weights=has_weights)
        reasons.append(reason)
    if fine_tuning:
        trainings, reason = _fine_tuning(sizes.images)
        settings |= trainings
        reasons.append(f"{reason}: {counted(sizes.images, 'training image')}")
    elif recipes:
        trainings, reason = _choose_recipes(sizes, side, has_weights=has_weights)
        settings |= trainings
        reasons.append(reason)
    return FromData(settings, tuple(reasons))


def fitting_resolution(side: int) -> int:
    """The largest usual resolution that does not enlarge an image with this shorter side."""
    return max((each for each in RESOLUTIONS if each <= side), default=RESOLUTIONS[0])


def _choose_master(sizes: ImageSizes, side: int, *, has_weights: bool) -> tuple[str, str]:
    """The name of the MasterNet in the zoo, and the reason."""
    if side < MIN_PHOTO_SIDE and not has_weights:
        name, reason = "master_small", f"images of {side} pixels are small"
    else:
        name = "genet_normal" if sizes.images >= MANY_IMAGES else PHOTO_MASTER
        reason = f"{counted(sizes.images, 'training image')} of {side} pixels"
    return name, f"MasterNet {name}: {reason}"


def _choose_recipes(
    sizes: ImageSizes, side: int, *, has_weights: bool
) -> tuple[dict[str, Any], str]:
    """The trainings of a search, and the reason."""
    if has_weights and sizes.images < MANY_IMAGES:
        trainings, epochs = _fine_tuning(sizes.images)
        images = counted(sizes.images, "training image")
        return trainings, f"recipe finetune: pretrained weights and {images}; {epochs}"
    if side < MIN_PHOTO_SIDE:
        return {}, f"recipes of the preset quick: images of {side} pixels are small"
    trainings = _trainings("imagenet")
    weights = "pretrained" if has_weights else "fresh"
    reason = f"recipe paper: {weights} weights and images of {side} pixels"
    if sizes.images < FEW_IMAGES:
        for table in TRAININGS:
            trainings[table] = {**trainings[table], "batch_size": SMALL_BATCH}
        images = counted(sizes.images, "training image")
        reason += f"; batches of {SMALL_BATCH} for {images}"
    return trainings, reason


def _fine_tuning(images: int) -> tuple[dict[str, Any], str]:
    """The trainings of the preset `photos` with enough epochs, and these in words."""
    trainings = _trainings("photos")
    epochs = _enough_epochs(images, trainings["master_training"]["batch_size"])
    # A candidate is trained for as long as its order among the candidates needs. The winner
    # continues from its weights as a candidate, and gains a point from twice as many epochs; see
    # `docs/pretrained.md`.
    candidates, winner = epochs // 2, 3 * epochs
    trainings["master_training"] = {**trainings["master_training"], "epochs": epochs}
    trainings["final_training"] = {**trainings["final_training"], "epochs": winner}
    trainings["confirm_epochs"] = candidates
    few_steps = ", because an epoch has few steps" * (epochs > FINE_TUNING["epochs"])
    return trainings, (
        f"{epochs} epochs for the MasterNet, {candidates} for candidates and {winner} for the "
        f"winner{few_steps}"
    )


def tuned_master(images: int | None, given: Mapping[str, Any]) -> dict[str, Any]:
    """The training of a MasterNet with starting weights.

    Args:
        images: The number of training images; None where they are not counted.
        given: The given fields of this training.
    """
    epochs = FINE_TUNING["epochs"]
    training = {**PRESETS["photos"][MASTER_TRAINING], "epochs": epochs, **given}
    if images is not None and "epochs" not in given:
        training["epochs"] = _enough_epochs(images, training["batch_size"])
    return training


def _enough_epochs(images: int, batch_size: int) -> int:
    """The epochs in which the recipe `finetune` takes enough steps."""
    least_steps: int = FINE_TUNING["least_steps"]
    return enough_epochs(FINE_TUNING["epochs"], least_steps, images, batch_size)


def _trainings(preset: str) -> dict[str, Any]:
    names = (*TRAININGS, "confirm_epochs")
    return {name: value for name, value in PRESETS[preset].items() if name in names}
