"""Images per second of `genets train` and of timm's train.py, which take turns epoch by epoch.

Both have the same network, images, augmentation, mix-up, loss, optimizer, batch, precision, layout
and workers. timm's loop consists of timm's own parts, as in its train.py: the loader with
prefetcher and mix-up in the collation, SGD, moving average, schedule; the loss is read at every
step. Random erasing happens in the readers in genets, and after the normalisation in timm. timm
runs with all threads, as train.py does, and a second time with as many threads as genets chose.
Run from the repository: python benchmarks/train_throughput.py.
Writes results/train_throughput.json.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from timm.data import FastCollateMixup, create_dataset, create_loader
from timm.loss import SoftTargetCrossEntropy
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from timm.utils import AverageMeter, ModelEmaV3

from conditions import write_result
from genets.core.host import count_cpus
from genets.networks import resolve_network
from genets.training import EpochRecord, Listener, RunRecipe, RunSettings
from genets.training.train_network import train_network
from photos import write_photos

CLASSES, VALIDATION, SIDES = 10, 2, (320, 240)
MIXUP, ERASE, POLICY, SMOOTHING, DECAY = 0.2, 0.25, "original", 0.1, 0.999


@dataclass(frozen=True)
class Case:
    network: str
    resolution: int
    images: int
    batch_size: int
    epochs_a_round: int


# Short epochs vary more, so a round has more of them.
CASES = (Case("timm:resnet18", 128, 640, 64, 1), Case("master_small", 32, 640, 64, 5))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=4, help="the first round warms up")
    parser.add_argument("--workers", type=int, default=count_cpus())
    options = parser.parse_args()
    if options.rounds < 2:
        parser.error("--rounds must be at least 2")
    cases = []
    with tempfile.TemporaryDirectory(prefix="genets-throughput-") as folder:
        for number, case in enumerate(CASES):
            data = make_photos(Path(folder) / f"photos-{number}", case.images)
            out = Path(folder) / f"run-{number}"
            epochs = 1 + (options.rounds - 1) * case.epochs_a_round
            cases.append(compare(case, data, out, epochs, options.workers))
    write_result("train_throughput", {"workers": options.workers, "cases": cases})


def make_photos(root: Path, images: int) -> Path:
    for part, count in (("train", images // CLASSES), ("val", VALIDATION), ("test", VALIDATION)):
        for label in range(CLASSES):
            write_photos(root / part / f"class-{label}", count, SIDES, seed=label)
    return root


def compare(case: Case, data: Path, out: Path, epochs: int, workers: int) -> dict[str, Any]:
    recipe = RunRecipe(
        epochs=epochs,
        batch_size=case.batch_size,
        learning_rate=0.1,
        weight_decay=4e-5,
        label_smoothing=SMOOTHING,
        mixup=MIXUP,
        auto_augment=POLICY,
        erase=ERASE,
        ema_decay=DECAY,
    )
    theirs_loop = TimmLoop(case, data, recipe, workers)
    all_threads = torch.get_num_threads()
    chosen = all_threads
    ours: list[float] = []
    theirs: list[float] = []
    theirs_at_ours: list[float] = []

    def epoch(record: EpochRecord, _: int) -> None:
        nonlocal chosen
        chosen = torch.get_num_threads()
        ours.append(record.seconds)
        torch.set_num_threads(all_threads)
        theirs.append(theirs_loop.epoch(record.epoch - 1))
        torch.set_num_threads(chosen)
        if chosen != all_threads:
            theirs_at_ours.append(theirs_loop.epoch(record.epoch - 1))

    settings = RunSettings(
        network=case.network, data=str(data), recipe=recipe, resolution=case.resolution
    )
    train_network(settings, out, device="cpu", workers=workers, listener=Listener(epoch=epoch))
    images = case.images // case.batch_size * case.batch_size
    at_ours = theirs_at_ours or theirs
    return {
        **vars(case),
        "threads": {"genets": chosen, "timm": all_threads},
        "genets_images_per_second": speeds(images, ours),
        "timm_images_per_second": speeds(images, theirs),
        "timm_images_per_second_at_genets_threads": speeds(images, at_ours),
        "times_timm": times_as_fast(ours, theirs),
        "times_timm_at_genets_threads": times_as_fast(ours, at_ours),
    }


def speeds(images: int, seconds: list[float]) -> list[float]:
    """Images per second of each epoch after the first, which warms up."""
    return [images / epoch for epoch in seconds[1:]]


def times_as_fast(ours: list[float], theirs: list[float]) -> float:
    """Median ratio of neighbouring epochs after the first, which warms up."""
    warm = zip(ours[1:], theirs[1:], strict=True)
    return statistics.median(timm / own for own, timm in warm)


class TimmLoop:
    """The training loop of timm's train.py, on a CPU."""

    def __init__(self, case: Case, data: Path, recipe: RunRecipe, workers: int) -> None:
        self.net = resolve_network(case.network, CLASSES).network
        self.net.to(memory_format=torch.channels_last)
        collate = FastCollateMixup(
            mixup_alpha=MIXUP, label_smoothing=SMOOTHING, num_classes=CLASSES
        )
        self.loader = create_loader(
            create_dataset("", root=str(data / "train")),
            input_size=(3, case.resolution, case.resolution),
            batch_size=case.batch_size,
            is_training=True,
            re_prob=ERASE,
            auto_augment=POLICY,
            interpolation="bicubic",
            num_workers=workers,
            collate_fn=collate,
            device=torch.device("cpu"),
            use_prefetcher=True,
        )
        self.loss = SoftTargetCrossEntropy()
        self.optimizer = create_optimizer_v2(
            self.net, opt="sgd", lr=recipe.peak_rate, momentum=0.9, weight_decay=4e-5
        )
        self.scheduler, _ = create_scheduler_v2(
            self.optimizer,
            num_epochs=recipe.epochs,
            step_on_epochs=False,
            updates_per_epoch=len(self.loader),
        )
        self.average = ModelEmaV3(self.net, decay=DECAY, use_warmup=True)

    def epoch(self, epoch: int) -> float:
        """Seconds of one pass over the training images."""
        start = time.perf_counter()
        self.net.train()
        losses, times = AverageMeter(), AverageMeter()
        updates = epoch * len(self.loader)
        end = time.time()
        for images, labels in self.loader:
            images = images.contiguous(memory_format=torch.channels_last)
            loss = self.loss(self.net(images), labels)
            loss.backward()
            self.optimizer.step()
            self.optimizer.zero_grad()
            updates += 1
            self.average.update(self.net, step=updates)
            losses.update(loss.item(), images.size(0))
            times.update(time.time() - end)
            self.scheduler.step_update(num_updates=updates, metric=losses.avg)
            end = time.time()
        return time.perf_counter() - start


if __name__ == "__main__":
    main()
