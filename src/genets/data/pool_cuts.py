"""Pools of stored images, and the splits that are cut off the training pool."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from genets.data.image_reader import Images
from genets.data.split import SPLITS, VALIDATION_SHARE, Fold, cut, cut_fold

TEST_SHARE = 0.2


@dataclass(frozen=True, eq=False)
class Pool:
    """A stored part of a data set: images, and their classes, which need no reading."""

    images: Images
    labels: Sequence[int]


def needed_cuts(stored: Mapping[str, Pool | None], splits: Collection[str]) -> list[str]:
    """The missing splits to cut off the training pool, in this order, for the needed `splits`.

    The test split is cut off first, so the validation split needs both cuts.
    """
    missing = [split for split in ("test", "validation") if stored[split] is None]
    if "train" in splits:
        return missing
    last = max((missing.index(split) for split in missing if split in splits), default=-1)
    return missing[: last + 1]


def cut_missing_splits(
    stored: Mapping[str, Pool | None], splits: Collection[str], cuts: Sequence[str], seed: int
) -> dict[str, tuple[Pool, Sequence[int]]]:
    """The pool and the positions in it for each needed split."""
    parts: dict[str, tuple[Pool, Sequence[int]]] = {
        split: (pool, range(len(pool.labels))) for split, pool in stored.items() if pool is not None
    }
    train = stored["train"]
    for split in cuts:
        assert train is not None, "a missing split is cut off the training images"
        remaining = parts["train"][1]
        labels = [train.labels[position] for position in remaining]
        test = split == "test"
        stay, cut_off = cut(
            labels,
            TEST_SHARE if test else VALIDATION_SHARE,
            purpose=split,
            seed=0 if test else seed,
        )
        parts[split] = train, [remaining[position] for position in cut_off]
        parts["train"] = train, [remaining[position] for position in stay]
    return {split: parts[split] for split in SPLITS if split in splits and split in parts}


def cut_training_fold(
    parts: Mapping[str, tuple[Pool, Sequence[int]]], with_validation: bool, fold: Fold, seed: int
) -> dict[str, tuple[Pool, Sequence[int]]]:
    """Training and validation split of a fold of the training images.

    Args:
        parts: the splits, each with its pool and its positions in the pool.
        with_validation: whether the validation split was cut off the training images.
        fold: the fold that is the validation split.
        seed: the seed of the cut.
    """
    pool, positions = parts["train"]
    every = sorted([*positions, *(parts["validation"][1] if with_validation else ())])
    stay, cut_off = cut_fold([pool.labels[position] for position in every], fold, seed=seed)
    return {
        "train": (pool, [every[position] for position in stay]),
        "validation": (pool, [every[position] for position in cut_off]),
    }
