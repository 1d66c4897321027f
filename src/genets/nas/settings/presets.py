"""Presets: settings for common purposes, which a settings file and options override."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from genets.core.errors import SettingsError, unknown_name
from genets.nas.settings.layers import merge
from genets.nas.study.reader import is_study, load_settings
from genets.structure.space import PAPER_BLOCKS
from genets.training.recipe import named_recipe


def _of_recipe(name: str, *fields: str) -> dict[str, Any]:
    recipe = named_recipe(name)
    return {field: recipe[field] for field in fields}


_RATE = ("batch_size", "learning_rate", "warmup_epochs")

PRESETS: dict[str, dict[str, Any]] = {
    # The defaults of `SearchSettings`: a few minutes on two CPU cores, for small images.
    "quick": {},
    # Section 5: twelve blocks with nine trials each, fine-tuned at 0.01 for 30 epochs; 480 epochs
    # for the winner. Hours to days on GPUs; with a MasterNet and images of that size.
    "paper": {
        "trials_per_super_block": 9 * len(PAPER_BLOCKS),
        "controls_per_super_block": 9,
        "space": {"blocks": [str(block) for block in PAPER_BLOCKS]},
        "table_seconds": 300.0,
        "measure_seconds": 10.0,
        "master_training": {"epochs": 120, **_of_recipe("paper", *_RATE)},
        "trial_training": _of_recipe("nas", "epochs", "batch_size", "learning_rate"),
        "confirm_epochs": 120,  # as long as the networks of each resolution are compared there
        "final_training": _of_recipe("paper", "epochs", *_RATE, "label_smoothing"),
    },
}


def settings_at(out: Path, preset: str | None, *layers: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the study at `out`, if there is one; a preset's over them; the layers on top.

    Raises SettingsError: an unknown preset; StudyError: a damaged study.
    """
    if preset is not None and preset not in PRESETS:
        raise SettingsError(unknown_name("preset", preset, PRESETS))
    stored = load_settings(out).to_dict() if is_study(out) else {}
    return merge(stored, PRESETS[preset] if preset else {}, *layers)
