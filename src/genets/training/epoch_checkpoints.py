"""Checkpoints after whole epochs, from which a training of `loop` continues.

The name of a checkpoint's folder is a key: the digest of everything that the training depends on.
So a training never continues from the checkpoint of another training.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from genets.core.errors import TrainingError, first_line, is_out_of_memory
from genets.core.log import get_logger
from genets.core.validation import to_plain
from genets.data import ImageData
from genets.training.checkpoints import CHECKPOINT_FILES, Checkpoints, epoch_of
from genets.training.recipe import Recipe, with_all_fields
from genets.training.score import Metric, Score

if TYPE_CHECKING:
    from genets.training.loop import Training

_log = get_logger(__name__)

SECONDS_BETWEEN = 60.0


class EpochCheckpoints:
    """The checkpoint of one training; several processes may share it.

    Args:
        folder: A folder for the checkpoint of one training at a time.
        key: See `training_key`.
        seconds: The least time between two checkpoints.

    Attributes:
        seconds_before: How long the training ran before it was interrupted; 0 where it begins.
    """

    def __init__(self, folder: Path, key: str, *, seconds: float = SECONDS_BETWEEN) -> None:
        self._folder, self._key, self._seconds = folder, key, seconds
        self._begun_at = self._saved_at = time.monotonic()
        self.seconds_before = 0.0

    def count_epochs(self) -> int:
        """Give the number of complete epochs of the checkpoint; 0 where there is none."""
        own = self._folder / self._key
        last = Checkpoints(own).last_path() if own.is_dir() else None
        return 0 if last is None else epoch_of(last)

    def resume(self, training: Training) -> None:
        """Continue a training from its checkpoint, if there is one.

        Where the checkpoint is damaged or of another version, the training begins again.
        """
        own = self._folder / self._key
        if not own.is_dir():
            return
        start = {name: tensor.clone() for name, tensor in training.state()[0].items()}
        try:
            checkpoint = Checkpoints(own, _log.warning).last()
            if checkpoint is None:
                return
            state = checkpoint.state
            floor = state["floor"] and Score.from_json(state["floor"])
            training.load(state["epoch"], checkpoint.tensors, floor)
            self.seconds_before = float(state["seconds"])
        except (OSError, RuntimeError, TrainingError, KeyError, TypeError, ValueError) as error:
            if is_out_of_memory(error):
                raise
            training.load(0, start, None)  # a part of the checkpoint may be loaded
            reason = first_line(error)
            _log.warning("a training begins again, because its checkpoint is unusable: %s", reason)
        else:
            _log.info("a training continues after %d epochs", training.epoch)

    def save_if_due(self, training: Training) -> None:
        """Store a checkpoint after an epoch, unless the last one is recent.

        Where the disk is full or memory runs out, the training goes on without a checkpoint.
        """
        now = time.monotonic()
        if now - self._saved_at < self._seconds or training.faults[0] is not None:
            return
        try:
            self._remove_others()
            tensors, floor = training.state()
            state = {
                "epoch": training.epoch, "step": 0, "best": None,
                "floor": floor and floor.to_json(),
                "seconds": self.seconds_before + now - self._begun_at,
            }  # fmt: skip
            Checkpoints(self._folder / self._key, newest=1).save(tensors, state)
        except (OSError, RuntimeError, MemoryError) as error:
            if not (isinstance(error, OSError) or is_out_of_memory(error)):
                raise
            _log.warning(
                "a training has no checkpoint after epoch %d: %s", training.epoch, first_line(error)
            )
        self._saved_at = time.monotonic()

    def _remove_others(self) -> None:
        """Remove the checkpoints of other trainings, which ended or will not continue."""
        self._folder.mkdir(parents=True, exist_ok=True)
        for path in self._folder.iterdir():
            if path.name != self._key:
                shutil.rmtree(path)


def newest_epoch(folder: Path) -> int:
    """Give the number of complete epochs of a training, from its folder of `EpochCheckpoints`."""
    return max(map(epoch_of, folder.glob(f"*/{CHECKPOINT_FILES}")), default=0)


def training_key(
    net: nn.Module,
    data: ImageData,
    recipe: Recipe,
    *,
    seed: int,
    device: str,
    teacher: nn.Module | None,
    metric: Metric,
) -> str:
    """Give a digest of everything that a training depends on.

    Buffers are left out, because estimated statistics of batch norms depend on the number of
    threads in their last digits.

    Args:
        net: The network with its starting weights.
        data: The images.
        recipe: How the network is trained.
        seed: The seed of the training.
        device: The device that trains; its number does not count.
        teacher: Its teacher, if it has one.
        metric: The score that decides a linear start.
    """
    fold = data.fold and (data.fold.number, data.fold.count)
    images = (data.name, data.resolution, data.seed, data.fingerprint, len(data.train), fold,
              data.preprocessing.to_json())  # fmt: skip
    plain: list[Any] = [images, to_plain(with_all_fields(recipe)), seed, device.partition(":")[0],
                        metric.value]  # fmt: skip
    digest = hashlib.blake2b(json.dumps(plain, sort_keys=True).encode(), digest_size=16)
    for network in (net, teacher):
        for name, tensor in () if network is None else network.named_parameters():
            digest.update(name.encode())
            digest.update(_bytes(tensor))
        digest.update(b"end")
    return digest.hexdigest()


def _bytes(tensor: Tensor) -> bytes:
    content: bytes = tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes()
    return content
