"""Presets: settings for common purposes. A settings file and options override a preset."""

from typing import Any

from genets.nas.settings.toml_tables import merge
from genets.nas.settings.training import recipe_table
from genets.structure.space import PAPER_BLOCKS

MASTER_TRAINING, TRIAL_TRAINING = "master_training", "trial_training"
TRAININGS = (MASTER_TRAINING, TRIAL_TRAINING, "final_training")


def _training(recipe: str, **changes: Any) -> dict[str, Any]:
    """All fields of a named recipe with changes, but the precision, which the device decides."""
    fields = recipe_table(recipe, changes)
    return {name: value for name, value in fields.items() if name != "precision"}


def _without_epochs(training: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in training.items() if name != "epochs"}


_MASTER_EPOCHS = 120  # as long as the paper trains the networks of section 4.1
_OF_MASTER = _training("paper", epochs=_MASTER_EPOCHS, warmup_epochs=5.0)

_PAPER: dict[str, Any] = {
    "trials_per_super_block": 9 * len(PAPER_BLOCKS),
    "controls_per_super_block": 9,
    "space": {"blocks": [str(block) for block in PAPER_BLOCKS]},
    "table_seconds": 300.0,
    "measure_seconds": 10.0,
    "master_training": _OF_MASTER,
    "trial_training": _training("nas"),
    "from_scratch": True,  # as the paper trains; starting weights replace it
    "confirm_epochs": 120,  # as long as the paper trains the networks of each resolution
    "final_training": _training("paper"),
}
_LITERAL: dict[str, Any] = {
    "sampling": "random",
    "trials": "separate",
    "trial_training": {"thaw": "block"},
    "regression": "paper",
    "selection": "random",
    "confirm": 1,
    "folds": 1,
}
# Our own numbers of trials and candidates, and those epochs of trials and candidates with which
# `benchmarks/projection.py` counts the hours of a search on ImageNet. The rate of a trial is that
# of the paper for fresh weights, because a fresh super-block has to converge in six epochs. The
# epochs and the rate of a trial are conventions: no search has run on ImageNet.
_IMAGENET: dict[str, Any] = {
    "from_scratch": True,  # starting weights replace it
    "space": _PAPER["space"],
    "table_seconds": 300.0,
    "measure_seconds": 10.0,
    "master_training": _OF_MASTER,
    "trial_training": _training("nas", epochs=6, learning_rate=0.1, warmup_epochs=0.5),
    "confirm_epochs": 30,
    "final_training": _training("paper"),
}
# The epochs of MasterNet, candidates and winner follow from the number of images; see `from_data`.
_PHOTOS: dict[str, Any] = {
    "pretrained": True,
    "table_seconds": 300.0,
    "measure_seconds": 10.0,
    "master_training": _without_epochs(_training("finetune")),
    # Of the recipe of a trial that inherits weights, only USED_BY_INHERITED_TRIALS counts.
    "trial_training": {"batch_size": 32},
    # A candidate begins with the trained classifier of the MasterNet.
    "final_training": _without_epochs(_training("finetune", linear_start=False)),
}

PRESETS: dict[str, dict[str, Any]] = {
    # The defaults of `SearchSettings`: a few minutes on two CPU cores, for small images.
    "quick": {},
    # Hundreds to thousands of photographs and pretrained weights: everything is fine-tuned.
    "photos": _PHOTOS,
    # The method of this package, with the paper's recipe for MasterNet and winner (mix-up, random
    # erasing, AutoAugment, 480 epochs) and blocks of its space. Days on a GPU for ImageNet.
    "imagenet": _IMAGENET,
    # The scale of section 5 of the paper with the method of this package: twelve blocks with nine
    # trials each, fine-tuned at 0.01 for 30 epochs; 480 epochs for the winner, with every field of
    # the paper's recipe. A search takes days on GPUs.
    "paper": _PAPER,
    # The scale and the method of the paper (section 4.2), for comparison.
    "paper-literal": merge(_PAPER, _LITERAL),
}

OF_SMALL_IMAGES = ("quick",)  # presets whose MasterNet does not follow from the data
OF_FINE_TUNING = ("photos",)  # presets whose epochs follow from the data
