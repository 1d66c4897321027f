"""Presets: settings for common purposes. A settings file and options override a preset."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from genets.core.errors import SettingsError, unknown_name
from genets.nas.settings.toml_tables import merge, merge_settings
from genets.nas.study.reader import is_study, load_settings
from genets.structure.space import PAPER_BLOCKS
from genets.training.recipe import named_recipe


def _recipe_fields(name: str, *fields: str) -> dict[str, Any]:
    recipe = named_recipe(name)
    return {field: recipe[field] for field in fields}


_RATE = ("batch_size", "learning_rate", "warmup_epochs")

_PAPER: dict[str, Any] = {
    "trials_per_super_block": 9 * len(PAPER_BLOCKS),
    "controls_per_super_block": 9,
    "space": {"blocks": [str(block) for block in PAPER_BLOCKS]},
    "table_seconds": 300.0,
    "measure_seconds": 10.0,
    "master_training": {"epochs": 120, **_recipe_fields("paper", *_RATE)},
    "trial_training": _recipe_fields("nas", "epochs", "batch_size", "learning_rate"),
    "confirm_epochs": 120,  # as long as the paper trains the networks of each resolution
    "final_training": _recipe_fields("paper", "epochs", *_RATE, "label_smoothing"),
}
_LITERAL: dict[str, Any] = {
    "sampling": "random",
    "trials": "separate",
    "trial_training": {"thaw": "block"},
    "regression": "paper",
    "selection": "random",
    "confirm": 1,
}

PRESETS: dict[str, dict[str, Any]] = {
    # The defaults of `SearchSettings`: a few minutes on two CPU cores, for small images.
    "quick": {},
    # The scale of section 5 of the paper with the method of this package: twelve blocks with nine
    # trials each, fine-tuned at 0.01 for 30 epochs; 480 epochs for the winner. A search takes
    # hours to days on GPUs, with a MasterNet and images of the paper's size.
    "paper": _PAPER,
    # The scale and the method of the paper (section 4.2), for comparison.
    "paper-literal": merge(_PAPER, _LITERAL),
}


def settings_at(out: Path, preset: str | None, *layers: Mapping[str, Any]) -> dict[str, Any]:
    """Merge the settings of a study, of a preset and of further layers; later ones win.

    Args:
        out: Folder of a study; a folder without a study contributes nothing.
        preset: Name of a preset, or None.
        layers: Partial settings.

    Raises:
        SettingsError: The preset is unknown.
        StudyError: The study is damaged.
    """
    if preset is not None and preset not in PRESETS:
        raise SettingsError(unknown_name("preset", preset, PRESETS))
    stored = load_settings(out).to_dict() if is_study(out) else {}
    return merge_settings(stored, PRESETS[preset] if preset else {}, *layers)
