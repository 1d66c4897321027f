"""Splits of single images that are read, transformed and collated by a DataLoader."""

from __future__ import annotations

import os
import shutil
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from PIL import Image
from timm.data.transforms_factory import create_transform
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision.transforms import Compose

from genets.core.errors import DataError, printable
from genets.data.broken_images import BrokenImages
from genets.data.image_reader import ImageReader, Images, Pick, collate
from genets.data.pixels import MEAN, STD, Erasing, normalised
from genets.data.seeds import generator_of
from genets.data.share import WHOLE, Share
from genets.data.split import (
    CPU,
    Batch,
    ImageData,
    check_classes,
    check_positive,
    check_resolution,
    check_share,
    cut,
    slices,
)

TEST_SHARE = 0.2
RESOLUTIONS = (8, 2048)
FEW_IMAGES = 500
MOST_READERS = 8
READER_LOST = ("DataLoader worker", "RuntimeError: unable to allocate shared memory")
SHARED_MEMORY, ROOM_TO_SHARE = "/dev/shm", 1 << 30  # bytes

Pixels = Callable[[Image.Image], Tensor]


@dataclass(frozen=True)
class Augmentation:
    """What timm's standard training transform does to an image.

    crop_area: smallest and largest share of the image that a random crop shows.
    flip: probability of a left-right flip.
    colour_jitter: largest change of brightness, contrast and saturation.
    auto_augment: timm's name of a policy, such as `rand-m9-mstd0.5`; empty for none.
    erase: probability of random erasing.
    """

    crop_area: tuple[float, float] = (0.08, 1.0)
    flip: float = 0.5
    colour_jitter: float = 0.4
    auto_augment: str = ""
    erase: float = 0.0

    def training_transform(self, resolution: int) -> Pixels:
        """From an image to pixels (3, resolution, resolution), bytes.

        It draws from the global generators.
        """
        transform: Any = create_transform(
            resolution,
            is_training=True,
            use_prefetcher=True,  # or numbers come out, normalised
            scale=self.crop_area,
            hflip=self.flip,
            color_jitter=self.colour_jitter,
            auto_augment=self.auto_augment or None,
            interpolation="bicubic",
        )
        both: Any = Compose([transform, Erasing(self.erase)])
        return cast(Pixels, both if self.erase else transform)


@dataclass(frozen=True, eq=False)
class Pool:
    """A part of a data set as it is stored: images, and their classes known without reading."""

    images: Images
    labels: Sequence[int]


@dataclass(eq=False)
class _Loader:
    """A loader, whose workers stay from pass to pass, and what it reads next."""

    batch_size: int
    training: bool
    loader: DataLoader[Any]
    picks: list[Pick]
    busy: bool = False


@dataclass(frozen=True, eq=False)
class PoolSplit:
    """The images of a pool at some positions, ascending; `share` of them is read here.

    device: that images are given on.
    """

    purpose: str
    images: Images
    positions: Sequence[int]
    training_transform: Any
    fixed_transform: Any
    broken: BrokenImages
    workers: int = 0
    share: Share = WHOLE
    device: torch.device = CPU
    _loaders: list[_Loader] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        # The registry of finalizers holds the loaders. As part of a cycle of garbage they would
        # lose their queues first, and then wait five seconds for each worker to hear of its end.
        weakref.finalize(self, self._loaders.clear).atexit = False

    def __len__(self) -> int:
        return len(self.positions)

    def batches(
        self, batch_size: int, *, epoch: int | None = None, seed: int = 0
    ) -> Iterator[Batch]:
        """See `Split.batches`. Equal for any number of workers, which stay from pass to pass.

        Raises DataError: more than 1 % of the images are broken.
        """
        check_positive("batch_size", batch_size)
        own = self._idle_loader(batch_size, training=epoch is not None)
        own.picks[:] = self._picks(batch_size, epoch, seed)
        own.busy = True  # a pass within a pass gets another
        try:
            for batch, broken in own.loader:
                self.broken.meet(broken)
                if batch is not None:
                    pixels, labels = batch
                    yield normalised(pixels.to(self.device, non_blocking=True)), labels
            own.busy = False
        except RuntimeError as error:
            last = str(error).strip().rpartition("\n")[2]
            if not last.startswith(READER_LOST):
                raise
            raise DataError(
                f"a process that reads images of {self.broken.data} has ended "
                f"({last.partition('. ')[0]}); memory, or shared memory ({SHARED_MEMORY}), "
                "may be too small; `genets train --workers 0` does without"
            ) from error
        finally:
            if own.busy:  # left in the middle
                self._loaders[:] = [other for other in self._loaders if other is not own]

    def _idle_loader(self, batch_size: int, *, training: bool) -> _Loader:
        for one in self._loaders:
            if not one.busy and (one.batch_size, one.training) == (batch_size, training):
                return one
        picks: list[Pick] = []
        loader = DataLoader(
            ImageReader(
                self.images,
                self.purpose,
                self.positions,
                self.training_transform,
                self.fixed_transform,
            ),
            max(1, batch_size // self.share.count),
            sampler=picks,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
            pin_memory=self.device.type == "cuda",
            generator=generator_of("pool", self.purpose),  # or the global one would be used
            collate_fn=collate,
        )
        self._loaders.append(_Loader(batch_size, training, loader, picks))
        return self._loaders[-1]

    def _picks(self, batch_size: int, epoch: int | None, seed: int) -> list[Pick]:
        """What is read here of a pass, batch by batch."""
        if epoch is None:
            return [(position, None) for position in self.positions[self.share.of_pass()]]
        generator = generator_of("pool", self.purpose, seed, epoch)
        order = torch.randperm(len(self), generator=generator).tolist()
        batches = (order[part] for part in slices(len(self), batch_size, drop_last=True))
        return [
            (self.positions[batch[place]], (seed, epoch))
            for batch in batches
            for place in self.share.of_batch(len(batch))
        ]


def _usual_workers(images: int, share: Share, device: torch.device) -> int:
    """One for each core of this process.

    On a CPU its threads tell its cores, and one that has one thread, or few images, reads itself.
    """
    if device.type != "cpu":
        return readers_for((os.cpu_count() or 1) // share.count)
    threads = torch.get_num_threads()
    return 0 if images <= FEW_IMAGES or threads == 1 else readers_for(threads)


def readers_for(cores: int) -> int:
    """How many processes read images where they may have so many cores.

    None where they could not pass them on: a container often has 64 MB of shared memory, and a
    process that writes more is killed.
    """
    try:
        if shutil.disk_usage(SHARED_MEMORY).free < ROOM_TO_SHARE:
            return 0
    except OSError:  # a system that shares in another way
        pass
    return min(MOST_READERS, max(1, cores))


def assemble(
    name: str,
    resolution: int,
    class_names: Sequence[str],
    train: Pool,
    validation: Pool | None,
    test: Pool | None,
    *,
    seed: int,
    validation_share: float,
    augmentation: Augmentation | None,
    workers: int | None,
    share: Share = WHOLE,
    device: torch.device = CPU,
    paths: Sequence[str] = (),
    fingerprint: str = "",
) -> ImageData:
    """Make the splits; those that are missing are cut off the training pool.

    A missing test split is cut the same way for every seed (20 % of each class), so that no
    search ever sees it; the validation split depends on `seed`.
    share: what this process reads. device: that images are given on. paths: the files of all
    images, where they are files.
    Raises DataError.
    """
    check_resolution(resolution, *RESOLUTIONS, name)
    check_share(validation_share)
    check_classes(name, train.labels, class_names, 1 + (validation is None) + (test is None))
    usual = _usual_workers(len(train.labels), share, device)
    workers = usual if workers is None else workers
    training = (augmentation or Augmentation()).training_transform(resolution)
    fixed = create_transform(resolution, use_prefetcher=True, interpolation="bicubic")
    pools = [pool for pool in (train, validation, test) if pool is not None]
    broken = BrokenImages(name, sum(len(pool.labels) for pool in pools), paths)

    def split(purpose: str, pool: Pool, positions: Sequence[int]) -> PoolSplit:
        return PoolSplit(
            purpose, pool.images, positions, training, fixed, broken, workers, share, device
        )

    kept: Sequence[int] = range(len(train.labels))
    if test is None:
        kept, off = cut(train.labels, TEST_SHARE, purpose="test")
        test_split = split("test", train, off)
    else:
        test_split = split("test", test, range(len(test.labels)))
    if validation is None:
        labels = [train.labels[i] for i in kept]
        stay, off = cut(labels, validation_share, purpose="validation", seed=seed)
        validation_split = split("validation", train, [kept[i] for i in off])
        kept = [kept[i] for i in stay]
    else:
        validation_split = split("validation", validation, range(len(validation.labels)))
    return ImageData(
        name=name,
        resolution=resolution,
        class_names=tuple(map(printable, class_names)),
        train=split("train", train, kept),
        validation=validation_split,
        test=test_split,
        mean=MEAN,
        std=STD,
        broken=broken,
        fingerprint=fingerprint,
        reading=usual > 0,
    )
