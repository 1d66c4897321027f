"""The orientation that EXIF states is applied wherever an image is read."""

import numpy as np
import pytest
import torch
from PIL import Image
from PIL.ExifTags import Base
from torchvision.datasets import ImageFolder

from genets.data import Augmentation, broken_files, load_data, read_rgb
from genets.data import timm_dataset as timm_name
from genets.data.pixels import as_rgb

# How an upright image is stored for each orientation: the inverse of the turn that EXIF asks for.
STORED_AS = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, 1),
    7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
    8: lambda a: np.rot90(a, -1),
}
UPRIGHT = np.random.default_rng(0).integers(0, 256, (12, 20, 3), dtype=np.uint8)


def store(path, pixels, orientation):
    image = Image.fromarray(np.ascontiguousarray(STORED_AS[orientation](pixels)))
    exif = Image.Exif()
    exif[Base.Orientation] = orientation
    path.parent.mkdir(parents=True, exist_ok=True)
    lossless = {"lossless": True} if path.suffix == ".webp" else {}
    image.save(path, exif=exif, **lossless)


@pytest.mark.parametrize("orientation", STORED_AS)
@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif"])
def test_every_orientation(tmp_path, suffix, orientation):
    path = tmp_path / f"x{suffix}"
    store(path, UPRIGHT, orientation)
    image = read_rgb(path)
    assert np.array_equal(np.asarray(image), UPRIGHT)
    assert np.array_equal(np.asarray(as_rgb(image)), UPRIGHT), "turned again"


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "I;16"])
def test_other_modes_are_turned_too(tmp_path, mode):
    grey = np.repeat(UPRIGHT[..., :1], 3, axis=2)
    deep = Image.fromarray(np.rot90(grey[..., 0], 1).astype(np.uint16) << 8)
    stored = Image.fromarray(np.ascontiguousarray(np.rot90(grey, 1)))
    exif = Image.Exif()
    exif[Base.Orientation] = 6
    (deep if mode == "I;16" else stored.convert(mode)).save(tmp_path / "x.png", exif=exif)
    assert np.asarray(read_rgb(tmp_path / "x.png")).shape == (12, 20, 3)
    if mode != "P":  # a palette of 256 colours changes some pixels
        assert np.array_equal(np.asarray(read_rgb(tmp_path / "x.png")), grey)


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_is_ignored(tmp_path, value):
    image, exif = Image.fromarray(UPRIGHT), Image.Exif()
    exif[Base.Orientation] = value
    image.save(tmp_path / "x.png", exif=exif)
    assert np.array_equal(np.asarray(read_rgb(tmp_path / "x.png")), UPRIGHT)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_damaged_exif_does_not_break_an_image(tmp_path):
    for number, damage in enumerate((b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM")):
        path = tmp_path / f"{number}.jpg"
        Image.fromarray(UPRIGHT).save(path, exif=damage)
        assert broken_files([str(path)]) == {}
        assert read_rgb(path).size == (20, 12)


def photos(root, orientations, suffix=".png"):
    """Two classes of 20 images; of each image the top is dark and the bottom is light."""
    rng = np.random.default_rng(1)
    for name, level in (("cat", 0), ("dog", 90)):
        for number in range(20):
            pixels = np.linspace(0, 150, 40)[:, None, None] + rng.integers(0, 16, (40, 56, 3))
            turn = orientations[number % len(orientations)]
            store(
                root / name / f"{number}{suffix}", (pixels + level).clip(0, 255).astype("u1"), turn
            )
    return root


def every_pass(data):
    yield from (batch for batch, _ in data.train.batches(4, epoch=1, seed=3))
    for split in (data.train, data.validation, data.test):
        yield from (batch for batch, _ in split.batches(5))


@pytest.mark.parametrize("workers", [0, 2])
def test_turned_photos_are_the_upright_ones_in_every_pass(tmp_path, workers):
    """Training, scoring and INT8 calibration read images through the splits."""
    upright = load_data(photos(tmp_path / "upright", [1]), 16)
    turned = load_data(photos(tmp_path / "turned", [6, 3, 8, 1]), 16, workers=workers)
    for one, other in zip(every_pass(upright), every_pass(turned), strict=True):
        assert torch.equal(one, other)


def test_named_data_sets_follow_the_same_rule(tmp_path, monkeypatch):
    """Not only folders: torchvision reads these files itself, and keeps their EXIF."""
    folders = {"hfds/upright": photos(tmp_path / "upright", [1]),
               "hfds/turned": photos(tmp_path / "turned", [6, 3, 8, 1])}  # fmt: skip

    def create_dataset(name, *, root, split, download):
        if split != "train":
            raise ValueError("Unknown split")
        return ImageFolder(folders[name])

    monkeypatch.setattr(timm_name, "create_dataset", create_dataset)
    one, other = (load_data(name, 16, augmentation=Augmentation()) for name in folders)
    for expected, found in zip(every_pass(one), every_pass(other), strict=True):
        assert torch.equal(expected, found)


def test_the_contract_states_the_rule(tmp_path):
    for name in ("digits", photos(tmp_path, [1])):
        assert load_data(name, 16).input_contract(16)["exif_orientation"] == "applied"
