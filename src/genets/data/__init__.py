"""Data sets, cut into training, validation and test split."""

from genets.core.data_name import LOADERS
from genets.core.image_facts import MAX_BROKEN_SHARE
from genets.data.broken_images import BrokenImages, broken_files
from genets.data.digits import DigitsSplit, load_digits
from genets.data.equal_files import describe_equal_files
from genets.data.folder import check_output_folder, load_folder
from genets.data.load import load_data
from genets.data.nuisance import Nuisance, render
from genets.data.pixels import read_rgb
from genets.data.pool import Augmentation, readers_for, with_augmentation
from genets.data.seeds import derive_seed, make_generator, seeded_globals
from genets.data.share import WHOLE, Share
from genets.data.split import SPLITS, Batch, ImageData, Split, steps_per_epoch
from genets.data.timm_dataset import load_timm

__all__ = [
    "LOADERS",
    "MAX_BROKEN_SHARE",
    "SPLITS",
    "WHOLE",
    "Augmentation",
    "Batch",
    "BrokenImages",
    "DigitsSplit",
    "ImageData",
    "Nuisance",
    "Share",
    "Split",
    "broken_files",
    "check_output_folder",
    "derive_seed",
    "describe_equal_files",
    "load_data",
    "load_digits",
    "load_folder",
    "load_timm",
    "make_generator",
    "read_rgb",
    "readers_for",
    "render",
    "seeded_globals",
    "steps_per_epoch",
    "with_augmentation",
]
