"""Defaults of a search that follow from other settings, and those of older studies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from genets.nas.settings.settings import SearchSettings

# Defaults of a search that screens no structure: its trials alone show which structures are good.
UNSCREENED_DEFAULTS: dict[str, Any] = {
    "trials_per_super_block": 14,
    "controls_per_super_block": 2,
    "confirm": 4,
}
_UNSCREENED = {name: f"{value} without screening" for name, value in UNSCREENED_DEFAULTS.items()}
# The defaults that follow from other settings, in words.
DEFAULTS_IN_WORDS = {
    "screen": "32; 0 with --from-scratch or the regression paper",
    "trials_per_super_block": f"one for each block; {_UNSCREENED['trials_per_super_block']}",
    "controls_per_super_block": f"1; {_UNSCREENED['controls_per_super_block']}",
    "confirm": f"2; {_UNSCREENED['confirm']}",
}

# Defaults for settings that older studies did not record.
OLDER_STUDY_DEFAULTS: dict[str, Any] = {
    "confirm": 1,
    "screen": 0,
    "sampling": "balanced",
    "rounds": 1,
    "folds": 1,
    "from_scratch": True,
    "master_training": {"precision": "fp32"},
    "trial_training": {"precision": "fp32"},
    "final_training": {"precision": "fp32"},
}


def choose_defaults(settings: SearchSettings) -> dict[str, Any]:
    """Choose the settings that were not given and follow from others; see `DEFAULTS_IN_WORDS`.

    Each block of a super-block has a trial, because candidates inherit the weights of trials.
    """
    given, chosen = settings.model_fields_set, {"screen": settings.screen}
    if "screen" not in given and (settings.from_scratch or settings.regression == "paper"):
        chosen["screen"] = 0
    if chosen["screen"] == 0:
        chosen |= UNSCREENED_DEFAULTS
    elif "trials_per_super_block" not in given:
        blocks = settings.space.design_space().around(settings.structure).blocks
        chosen["trials_per_super_block"] = max(map(len, blocks.values()))
    return {name: value for name, value in chosen.items() if name not in given}
