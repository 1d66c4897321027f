"""Very long images and very large ones: the usual pixels, and bounded memory."""

import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from folder_lab import fill, write
from PIL import Image

from genets.core.errors import DataError
from genets.data import broken_files, load_data
from genets.data.long_images import FILTERS, CentreOfLong, crop_enlarged


def reference(image, side, resolution, interpolation):
    """Resize the whole image as timm does, then crop."""
    short, long = sorted(image.size)
    outputs = int(side * long / short)
    size = (outputs, side) if image.width == long else (side, outputs)
    resized = image.resize(size, Image.Resampling[interpolation.upper()])
    left, top = (round((length - resolution) / 2) for length in size)
    return resized.crop((left, top, left + resolution, top + resolution))


@pytest.mark.parametrize("interpolation", FILTERS)
@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize(
    ("short", "long", "side", "resolution"),
    [(1, 20, 36, 32), (1, 401, 37, 32), (1, 2000, 9, 8), (2, 333, 33, 33), (3, 500, 36, 31),
     (7, 61, 256, 224), (30, 290, 36, 32), (35, 700, 36, 32)],
)  # fmt: skip
def test_the_pixels_are_those_of_a_resize_and_a_crop(
    short, long, side, resolution, turned, interpolation
):
    shape = (long, short, 3) if turned else (short, long, 3)
    image = Image.fromarray(np.random.default_rng(long).integers(0, 256, shape, dtype=np.uint8))
    found = np.asarray(crop_enlarged(image, side, resolution, interpolation))
    assert np.array_equal(found, np.asarray(reference(image, side, resolution, interpolation)))


@pytest.mark.parametrize("size", [(20_000, 1), (1, 60_000), (3, 1_000_000)])
def test_little_memory_is_used(tmp_path, size):
    """A resize of the whole image would take gigabytes."""
    for number in range(3):
        write(tmp_path / "long" / f"{number}.png", seed=number, size=size)
        write(tmp_path / "usual" / f"{number}.png", seed=number)
    data = load_data(tmp_path, 224)
    tracemalloc.start()
    try:
        shapes = [tuple(batch.shape) for split in (data.train, data.validation, data.test)
                  for batch, _ in split.batches(4)]  # fmt: skip
        assert shapes == [(2, 3, 224, 224)] * 3
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()
    ((images, _),) = data.train.batches(4, epoch=0)
    assert images.isfinite().all()


def test_pillow_does_not_get_the_long_form(monkeypatch):
    """Pillow's own memory is not traced."""
    sizes = []
    resize = Image.Image.resize
    monkeypatch.setattr(
        Image.Image,
        "resize",
        lambda self, size, *rest: sizes.append(size) or resize(self, size, *rest),
    )
    for image in (Image.new("RGB", (20_000, 1)), Image.new("RGB", (2, 60_000))):
        crop_enlarged(image, 256, 224, "bicubic")
    assert max(width * height for width, height in sizes) <= 256 * 256


@pytest.mark.parametrize(
    ("size", "taken"), [((90, 11), True), ((80, 10), False), ((900, 90), False)]
)
def test_only_long_images_that_are_enlarged_go_another_way(size, taken):
    asked = []
    CentreOfLong(asked.append, 36, 32, "bicubic")(Image.new("RGB", size))
    assert bool(asked) is not taken


def bomb(path, side):
    """A PNG that says it has side x side pixels."""

    def chunk(kind, content):
        body = kind + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(bytes(1000)))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + pixels + chunk(b"IEND", b""))
    return path


@pytest.mark.parametrize("side", [14_000, 60_000, 2**31 - 1])
def test_a_decompression_bomb_is_a_broken_image(tmp_path, side):
    path = bomb(fill(tmp_path) / "cat" / "bomb.png", side)
    (reason,) = broken_files([str(path)]).values()
    assert "decompression bomb" in reason
    with pytest.warns(UserWarning, match=r"bomb\.png cannot be read \(.*decompression bomb"):
        data = load_data(tmp_path, 8)
    assert (
        sum(len(y) for s in (data.train, data.validation, data.test) for _, y in s.batches(9)) == 20
    )
    bomb(tmp_path / "dog" / "bomb.png", side)
    with pytest.raises(DataError, match="2 of 22 images"):
        load_data(tmp_path, 8)
