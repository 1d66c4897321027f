"""Splits of single images that a DataLoader reads, transforms and collates."""

from __future__ import annotations

import shutil
import sys
import weakref
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypedDict, cast

import torch
from timm.data.transforms_factory import create_transform
from torch.utils.data import DataLoader
from torchvision.transforms import Compose

from genets.core.errors import DataError, printable
from genets.core.host import count_cpus
from genets.core.image_facts import MAX_BROKEN_SHARE, Preprocessing
from genets.data.broken_images import BrokenImages
from genets.data.image_reader import ImageReader, Images, Pick, collate, image_name
from genets.data.pixels import Erasing, normalised
from genets.data.pool_cuts import Pool, cut_missing_splits, cut_training_fold, needed_cuts
from genets.data.scoring import DEFAULT, Pixels, make_transform
from genets.data.seeds import make_generator
from genets.data.share import WHOLE, Share
from genets.data.split import (
    CPU,
    SPLITS,
    Batch,
    Fold,
    ImageData,
    check_classes,
    check_positive,
    check_resolution,
    slices,
)

RESOLUTIONS = (8, 2048)
FEW_IMAGES = 500
MAX_READERS = 8
READER_LOST = ("DataLoader worker", "RuntimeError: unable to allocate shared memory")
SHARED_MEMORY, ROOM_TO_SHARE = "/dev/shm", 1 << 30  # bytes


@dataclass(frozen=True)
class Augmentation:
    """The settings of timm's standard training transform.

    Attributes:
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
        """Make the transform from an image to pixels (3, resolution, resolution) as bytes.

        The transform draws from the global generators.
        """
        transform: Any = create_transform(
            resolution,
            is_training=True,
            use_prefetcher=True,  # otherwise the result is normalised float32
            scale=self.crop_area,
            hflip=self.flip,
            color_jitter=self.colour_jitter,
            auto_augment=self.auto_augment or None,
            interpolation="bicubic",
        )
        with_erasing: Any = Compose([transform, Erasing(self.erase)])
        return cast(Pixels, with_erasing if self.erase else transform)


class PoolOptions(TypedDict, total=False):
    """Options of every data set whose images are read one by one.

    Attributes:
        seed: decides the cut of the validation split; 0 by default.
        augmentation: of the training images; None is timm's standard augmentation.
        workers: processes that read images; None chooses by the number of images.
        share: the share of the images that this process reads; all by default.
        device: device of the images in a batch; the CPU by default.
        preprocessing: of the images that are scored; None is `scoring.DEFAULT`.
        max_broken_share: the largest share of broken images that is no error; 0.01 by default.
        splits: the splits that are needed, by default all three. The others stay empty: their
            images are not read, and may be missing.
        cut_missing: whether a missing split is cut off the training images, which is the default.
            Otherwise it stays empty.
        fold: for cross-validation, makes a part of the training images the validation split. A
            validation split that would be cut off them is one of the parts; a stored validation
            split is not used.
    """

    seed: int
    augmentation: Augmentation | None
    workers: int | None
    share: Share
    device: torch.device
    preprocessing: Preprocessing | None
    max_broken_share: float
    splits: Sequence[str]
    cut_missing: bool
    fold: Fold | None


@dataclass(eq=False)
class _Loader:
    """A loader whose workers stay from pass to pass, and the picks that it reads next."""

    batch_size: int
    training: bool
    loader: DataLoader[Any]
    picks: list[Pick]
    busy: bool = False


@dataclass(frozen=True, eq=False)
class PoolSplit:
    """The images of a pool at some positions.

    Attributes:
        purpose: name of the split.
        images: the images of the pool.
        positions: positions of the split in the pool, ascending.
        training_transform, fixed_transform: from an image to pixels (3, H, W) as bytes.
        broken: the broken images of the data set.
        workers: processes that read images; 0 reads in this process.
        share: the share of the images that this process reads.
        device: device of the images in a batch.
        preprocessing: normalises the pixels.
        labels: the classes of all images of the pool.
        augmentation: the settings of `training_transform`.
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
    preprocessing: Preprocessing = DEFAULT
    labels: Sequence[int] = ()
    augmentation: Augmentation = field(default_factory=Augmentation)
    _loaders: list[_Loader] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        # The registry of finalizers holds the loaders. In a cycle of garbage, the loaders would
        # lose their queues first and then wait five seconds for each worker to end.
        weakref.finalize(self, self._loaders.clear).atexit = False

    def __len__(self) -> int:
        return len(self.positions)

    def names(self) -> list[str]:
        """See `NamedSplit.names`."""
        positions = self.positions[self.share.of_pass()]
        names = (image_name(self.images, self.purpose, position) for position in positions)
        return [name for name in names if name not in self.broken.reasons]

    def class_counts(self) -> Counter[int]:
        """See `Split.class_counts`."""
        return Counter(self.labels[position] for position in self.positions)

    @property
    def paths(self) -> list[str]:
        """The files of the images; empty where images are not files."""
        paths: Sequence[str] = getattr(self.images, "paths", ())
        return [paths[position] for position in self.positions] if paths else []

    def batches(
        self, batch_size: int, *, epoch: int | None = None, seed: int = 0
    ) -> Iterator[Batch]:
        """See `Split.batches`. The batches are equal for any number of workers.

        Raises:
            DataError: too many images are broken, or a training pass has no readable image.
        """
        check_positive("batch_size", batch_size)
        idle = self._idle_loader(batch_size, training=epoch is not None)
        idle.picks[:] = self._picks(batch_size, epoch, seed)
        idle.busy = True  # a pass within a pass gets another loader
        empty = True
        try:
            for batch, broken in idle.loader:
                self.broken.meet(broken)
                if batch is not None:
                    pixels, labels = batch
                    empty = False
                    pixels = pixels.to(self.device, non_blocking=True)
                    yield normalised(pixels, self.preprocessing), labels
            idle.busy = False
            if empty and epoch is not None:
                raise DataError(
                    f"none of the {len(self)} images of the {self.purpose} split of "
                    f"{self.broken.data} can be read"
                )
        except RuntimeError as error:
            last = str(error).strip().rpartition("\n")[2]
            if not last.startswith(READER_LOST):
                raise
            raise DataError(
                f"a process that reads images of {self.broken.data} has ended "
                f"({last.partition('. ')[0]}); memory, or shared memory ({SHARED_MEMORY}), "
                "may be too small; give this program more of it (with `genets train`, --workers 0 "
                "also helps)"
            ) from error
        finally:
            if idle.busy:  # the pass was left in the middle
                self._loaders[:] = [other for other in self._loaders if other is not idle]

    def _idle_loader(self, batch_size: int, *, training: bool) -> _Loader:
        for idle in self._loaders:
            if not idle.busy and (idle.batch_size, idle.training) == (batch_size, training):
                return idle
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
            # The default of Python 3.14 starts them anew, and imports everything once more.
            multiprocessing_context="fork" if self.workers and sys.platform == "linux" else None,
            pin_memory=self.device.type == "cuda",
            generator=make_generator(
                "pool", self.purpose
            ),  # otherwise the loader draws from the global one
            collate_fn=collate,
        )
        self._loaders.append(_Loader(batch_size, training, loader, picks))
        return self._loaders[-1]

    def _picks(self, batch_size: int, epoch: int | None, seed: int) -> list[Pick]:
        """The picks of this process for a pass, batch by batch."""
        if epoch is None:
            return [(position, None) for position in self.positions[self.share.of_pass()]]
        generator = make_generator("pool", self.purpose, seed, epoch)
        order = torch.randperm(len(self), generator=generator).tolist()
        batches = (order[part] for part in slices(len(self), batch_size, drop_last=True))
        return [
            (self.positions[batch[place]], (seed, epoch))
            for batch in batches
            for place in self.share.of_batch(len(batch))
        ]


def _usual_workers(images: int, share: Share, device: torch.device) -> int:
    """One worker for each core of this process.

    On a CPU the number of threads is taken as the number of cores. A process with one thread, or
    with few images, reads the images itself.
    """
    if device.type != "cpu":
        return readers_for(count_cpus() // share.count)
    threads = torch.get_num_threads()
    return 0 if images <= FEW_IMAGES or threads == 1 else readers_for(threads)


def readers_for(cores: int) -> int:
    """The number of processes that read images on so many cores.

    It is 0 where shared memory is small: a container often has 64 MB of shared memory, and a
    process that writes more is killed.
    """
    try:
        if shutil.disk_usage(SHARED_MEMORY).free < ROOM_TO_SHARE:
            return 0
    except OSError:  # the system shares memory in another way
        pass
    return min(MAX_READERS, max(1, cores))


def assemble(
    name: str,
    resolution: int,
    class_names: Sequence[str],
    train: Pool | None,
    validation: Pool | None,
    test: Pool | None,
    *,
    seed: int = 0,
    augmentation: Augmentation | None = None,
    workers: int | None = None,
    share: Share = WHOLE,
    device: torch.device = CPU,
    preprocessing: Preprocessing | None = None,
    max_broken_share: float = MAX_BROKEN_SHARE,
    splits: Sequence[str] = SPLITS,
    cut_missing: bool = True,
    fold: Fold | None = None,
    train_fingerprint: str = "",
    fingerprint: str = "",
) -> ImageData:
    """Make the three splits; a missing split is cut off the training pool.

    A missing test split is the same for every seed (20 % of each class), so that no search ever
    sees its images; a missing validation split depends on `seed`.

    Args:
        name: name of the data set.
        resolution: pixels along each side of the images.
        class_names: names of the classes.
        train, validation, test: the stored images of each split; None where there is none.
        seed, augmentation, workers, share, device, preprocessing, max_broken_share, splits,
        cut_missing, fold: see `PoolOptions`.
        train_fingerprint, fingerprint: see `ImageData`.

    Raises:
        DataError: the resolution is out of range, or there are too few images or classes.
    """
    check_resolution(resolution, *RESOLUTIONS, name)
    stored = {"train": train, "validation": validation, "test": test}
    cuts = needed_cuts(stored, splits) if cut_missing else []
    needs_train = "train" in splits or bool(cuts)
    labels = train.labels if train is not None and needs_train else None
    check_classes(name, labels, class_names, 1 + len(cuts))
    parts = cut_missing_splits(stored, splits, cuts, seed)
    if fold is not None:
        parts |= cut_training_fold(parts, "validation" in cuts, fold, seed)
    images = sum(len(positions) for _, positions in parts.values())
    usual = _usual_workers(images if labels is None else len(labels), share, device)
    workers = usual if workers is None else workers
    augmentation = augmentation or Augmentation()
    training = augmentation.training_transform(resolution)
    preprocessing = preprocessing or DEFAULT
    fixed = make_transform(preprocessing, resolution)
    broken = BrokenImages(name, images, max_share=max_broken_share)

    def split(purpose: str) -> PoolSplit:
        pool, positions = parts.get(purpose, (Pool([], []), []))
        return PoolSplit(
            purpose, pool.images, positions, training, fixed, broken, workers, share, device,
            preprocessing, pool.labels, augmentation,
        )  # fmt: skip

    made = {purpose: split(purpose) for purpose in SPLITS}
    broken.paths = [path for each in made.values() for path in each.paths]
    return ImageData(
        name=name,
        resolution=resolution,
        class_names=tuple(map(printable, class_names)),
        train=made["train"],
        validation=made["validation"],
        test=made["test"],
        preprocessing=preprocessing,
        seed=seed,
        cut_splits=tuple(cuts),
        train_fingerprint=train_fingerprint,
        broken=broken,
        fingerprint=fingerprint,
        reading=usual > 0,
        fold=fold,
    )


def with_augmentation(data: ImageData, augmentation: Augmentation) -> ImageData:
    """Give the same images with another augmentation of the training images.

    Data sets that draw their own images stay as they are, with their own disturbances.
    """
    split = data.train
    if not isinstance(split, PoolSplit) or split.augmentation == augmentation:
        return data
    transform = augmentation.training_transform(data.resolution)
    augmented = replace(split, training_transform=transform, augmentation=augmentation)
    return replace(data, train=augmented)
