"""Image files with equal bytes in several splits."""

import os
import shutil
from pathlib import Path

import pytest
from folder_lab import fill

from genets.data import describe_equal_files, load_data


def stored(root):
    """Splits of 20, 12 and 8 images; all images differ."""
    for number, (name, count) in enumerate((("train", 10), ("val", 6), ("test", 4))):
        fill(root / name, classes=("cat", "dog"), count=count)
        for path in (root / name).rglob("*.png"):
            path.write_bytes(path.read_bytes() + bytes([number]))  # ignored by decoders
    return root


def test_different_files_of_equal_size(tmp_path):
    assert describe_equal_files(load_data(stored(tmp_path), 8)) == ""


@pytest.mark.parametrize("copy", [shutil.copy, os.link])
def test_copies_and_hard_links_are_counted(tmp_path, copy):
    train, validation, test = (stored(tmp_path) / name for name in ("train", "val", "test"))
    copy(train / "cat" / "0.png", test / "cat" / "again.png")
    copy(train / "cat" / "0.png", test / "dog" / "once more.png")
    copy(train / "dog" / "1.png", validation / "dog" / "again.png")
    copy(validation / "cat" / "2.png", test / "cat" / "both.png")
    copy(train / "dog" / "3.png", train / "dog" / "twice in one split.png")
    sentence = describe_equal_files(load_data(tmp_path, 8))
    assert sentence.startswith(
        f"{tmp_path} has equal files in several splits: "
        "1 of 13 validation images are also train images; "
        "2 of 11 test images are also train images; "
        "1 of 11 test images are also validation images, such as "
    )
    assert sentence.endswith(
        "; the scores on these images will be too high, so keep one copy of each image"
    )
    assert "\n" not in sentence


def test_splits_that_were_cut(tmp_path):
    """Every image has a copy, so many copies fall into other splits."""
    for path in sorted(fill(tmp_path, count=20).rglob("*.png")):
        shutil.copy(path, path.with_stem(f"copy of {path.stem}"))
    data = load_data(tmp_path, 8)
    splits = {"train": data.train, "validation": data.validation, "test": data.test}
    contents = {
        name: [Path(split.images.paths[i]).read_bytes() for i in split.positions]
        for name, split in splits.items()
    }
    count = sum(content in contents["train"] for content in contents["test"])
    assert count > 0
    assert f"{count} of 16 test images are also train images" in describe_equal_files(data)


def test_broken_and_empty_files_are_not_compared(tmp_path):
    stored(tmp_path)
    for name in ("train", "test"):
        (tmp_path / name / "cat" / "empty.png").write_bytes(b"")
        (tmp_path / name / "cat" / "gone.png").symlink_to("/nowhere")
    assert describe_equal_files(load_data(tmp_path, 8, check=False)) == ""


def test_digits_are_no_files():
    assert describe_equal_files(load_data("digits", 8)) == ""
