"""The training of MasterNet or winner that was interrupted continues from its last checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from rounds_lab import ClosedFormLaboratory, search, settings

from genets.core.progress import Progress
from genets.nas.laboratory import Laboratory
from genets.nas.result import SearchResult
from genets.nas.study import layout
from genets.networks.weights import read_weights
from genets.training.epoch_checkpoints import EpochCheckpoints

RECIPE = {"epochs": 3, "warmup_epochs": 0.5, "batch_size": 128, "ema_decay": 0.9}
ASKED = settings(rounds=1, confirm=1, folds=2, master_training=RECIPE, final_training=RECIPE)


class Training(ClosedFormLaboratory):
    """Trains MasterNet and winner for real."""

    def train(self, *words: Any, **options: Any) -> None:
        Laboratory.train(self, *words, **options)


@pytest.fixture(autouse=True)
def checkpoint_after_each_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(EpochCheckpoints.__init__.__kwdefaults__, "seconds", 0.0)


def weights(result: SearchResult) -> dict[str, torch.Tensor]:
    return read_weights(result.folder / layout.WINNER_WEIGHTS)[0]


# With two folds, the phase has the epochs of three MasterNets.
@pytest.mark.parametrize(
    ("phase", "at", "stored"), [("MasterNet training", 5, 4), ("final training", 2, 1)]
)
def test_an_interrupted_training_loses_the_last_epoch_alone(
    phase: str, at: int, stored: int, tmp_path: Path
) -> None:
    seen: list[float] = []

    def stop(step: Progress) -> None:
        if step.phase == phase and step.done == at:
            raise KeyboardInterrupt

    def watch(step: Progress) -> None:
        if step.phase == phase:
            seen.append(step.done)

    with pytest.raises(KeyboardInterrupt):
        search(ASKED, tmp_path / "study", Training(ASKED), on_event=stop)
    assert len(list((tmp_path / "study" / layout.CHECKPOINTS).iterdir())) == 1
    result = search(ASKED, tmp_path / "study", Training(ASKED), on_event=watch)
    assert seen[:2] == [stored, stored + 1]
    assert not (result.folder / layout.CHECKPOINTS).exists()
    whole, continued = weights(search(ASKED, tmp_path / "whole", Training(ASKED))), weights(result)
    assert all(torch.equal(whole[name], continued[name]) for name in whole)
