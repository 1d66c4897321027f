"""Presets: settings for common purposes, which a settings file and options override."""

from typing import Any

from genets.structure.space import PAPER_BLOCKS

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
        "master_training": {
            "epochs": 120,
            "batch_size": 256,
            "learning_rate": 0.1,
            "warmup_epochs": 5.0,
        },
        "trial_training": {"epochs": 30, "batch_size": 256, "learning_rate": 0.01},
        "final_training": {
            "epochs": 480,
            "batch_size": 256,
            "learning_rate": 0.1,
            "warmup_epochs": 5.0,
            "label_smoothing": 0.1,
        },
    },
}
