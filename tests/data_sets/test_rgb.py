"""Images of every kind as RGB, or counted as broken."""

import io

import numpy as np
import pytest
from PIL import Image

from genets.data import broken_files, load_data
from genets.data.pixels import as_rgb

DEEP = np.arange(0, 65536, 1024, dtype=np.uint16).reshape(8, 8)


def stored(image, kind, **options):
    file = io.BytesIO()
    image.save(file, format=kind, **options)
    return Image.open(file)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_of_16_bits_the_upper_8_are_taken(kind):
    pixels = np.asarray(as_rgb(stored(Image.fromarray(DEEP), kind)))
    assert np.array_equal(pixels, np.repeat((DEEP >> 8)[..., None], 3, axis=2))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "RGBA", "CMYK", "YCbCr"])
def test_other_modes_are_converted_by_pillow(mode):
    image = Image.effect_noise((9, 7), 60).convert("RGB").convert(mode)
    assert np.array_equal(np.asarray(as_rgb(image)), np.asarray(image.convert("RGB")))


def test_a_palette_with_transparent_colours_gives_no_warning():
    image = Image.effect_noise((9, 7), 60).convert("RGB").quantize(8)
    image = stored(image, "PNG", transparency=bytes(range(8)))
    colours = np.asarray(image.convert("RGBA"))[..., :3]
    assert np.array_equal(np.asarray(as_rgb(image)), colours)


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_a_range_that_nobody_knows_is_broken(tmp_path, dtype):
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for number in range(60):
            Image.effect_noise((9, 7), 60).save(tmp_path / name / f"{number}.png")
    path = tmp_path / "cat" / "deep.tif"
    Image.fromarray(np.ones((7, 9), dtype)).save(path)
    reason = f"pixels of mode {'F' if dtype is np.float32 else 'I'} have no known range"
    assert broken_files([str(path)]) == {str(path): reason}
    data = load_data(tmp_path, 8, check=False)
    data.broken.report = lambda name, reason: None
    for split in (data.train, data.validation, data.test):
        list(split.batches(32))
    assert data.broken.reasons == {str(path): reason}


def test_the_reason_does_not_repeat_the_file(tmp_path, monkeypatch):
    (tmp_path / "a.jpg").write_bytes(b"no image")
    monkeypatch.chdir(tmp_path)
    assert broken_files(["a.jpg"]) == {"a.jpg": "cannot identify image file"}


def test_a_file_that_only_one_decoder_refuses_is_broken(tmp_path):
    file = io.BytesIO()
    Image.effect_noise((24, 30), 60).convert("RGB").save(file, format="DDS")
    content = bytearray(file.getvalue())
    content[80] = 9  # the flags of its pixels: Pillow has an error of another kind for these
    (tmp_path / "photo.jpg").write_bytes(bytes(content))
    (reason,) = broken_files([str(tmp_path / "photo.jpg")]).values()
    assert "pixel format" in reason
