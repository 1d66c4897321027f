"""Presets: settings for common purposes, which a settings file and options override."""

from typing import Any

PRESETS: dict[str, dict[str, Any]] = {
    # A few minutes on two CPU cores, for small images and `master_small`.
    "quick": {
        "trials_per_super_block": 14,
        "controls_per_super_block": 2,
        "space": {"blocks": ["XX3", "BL3r0.5", "BL3r0.25", "DW3r3", "DW3r6"]},
        "master_training": {"epochs": 36, "learning_rate": 1.2},
        "trial_training": {"epochs": 6, "learning_rate": 0.8},
        "final_training": {"epochs": 36, "learning_rate": 1.2},
    },
    # The paper's space; hours on a CPU, for a GPU and real data sets.
    "standard": {
        "trials_per_super_block": 32,
        "controls_per_super_block": 3,
        "master_training": {"epochs": 120, "batch_size": 256},
        "trial_training": {"epochs": 30, "batch_size": 256},
        "final_training": {"epochs": 480, "batch_size": 256},
    },
}
