"""A folder of images that travels to a machine that lacks it."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from uuid import uuid4

import pytest
from photo_lab import make_photos
from workers_lab import INPUT, StubJob

from genets.core.errors import GenetsError
from genets.data import load_data
from genets.nas.workers.image_folder import MAX_TRAVELLING_BYTES, read_folder, write_folder
from genets.nas.workers.ray_worker import ABANDONED_SECONDS, LOCK, Parcel, RayWorker


def test_a_folder_arrives_with_the_same_images(tmp_path: Path) -> None:
    """Also behind links; a link to a folder above it is not followed."""
    photos = make_photos(tmp_path / "photos")
    (photos / "birds").symlink_to(make_photos(tmp_path / "elsewhere", ("birds",)) / "birds")
    (photos / "cats" / "again").symlink_to(photos)
    (photos / "notes.txt").write_text("")
    (tmp_path / "there").mkdir()
    arrived = write_folder(tmp_path / "there", read_folder(photos))
    assert load_data(arrived, 16).fingerprint == load_data(photos, 16).fingerprint
    assert len(list(arrived.rglob("*.png"))) == 18
    assert not any(path.is_symlink() for path in arrived.rglob("*"))


def test_the_workers_of_a_machine_write_the_files_once(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, {"cats/1.png": b"first"})
    assert write_folder(tmp_path, {"cats/1.png": b"second"}) == folder
    assert (folder / "cats" / "1.png").read_bytes() == b"first"


@pytest.mark.parametrize("name", ["../out.png", "cats/../../out.png", "/out.png", ""])
def test_no_path_leaves_the_folder(name: str, tmp_path: Path) -> None:
    (tmp_path / "place").mkdir()
    with pytest.raises(GenetsError, match="leaves its folder"):
        write_folder(tmp_path / "place", {name: b"x"})
    assert [path.name for path in tmp_path.iterdir()] == ["place"]


def test_a_large_folder_does_not_travel(tmp_path: Path) -> None:
    (tmp_path / "sparse").touch()
    with (tmp_path / "sparse").open("r+b") as file:
        file.truncate(MAX_TRAVELLING_BYTES)
    (tmp_path / "zero").touch()
    (tmp_path / "zz").write_bytes(b"1")  # the byte too many
    with pytest.raises(GenetsError, match="its files have more than 256 MiB"):
        read_folder(tmp_path)


def test_a_folder_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(GenetsError, match=r"cannot read '.*gone': No such file"):
        read_folder(tmp_path / "gone")


def test_a_worker_asks_for_images_that_it_does_not_see(tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "photos")
    (tmp_path / INPUT).write_text("ran")
    job = StubJob(tmp_path, tmp_path, data=str(photos))
    parcel, contents = Parcel(job, job.inputs([]), photos), read_folder(photos)
    worker = RayWorker()
    worker.begin({}, "cpu", "fp32", str(tmp_path), "run")
    assert not worker.prepare(parcel).lacks_images
    shutil.rmtree(photos)
    assert worker.prepare(parcel).lacks_images
    assert not worker.prepare(parcel, contents).lacks_images
    arrived = Path(worker._runner.job.data)  # type: ignore[attr-defined]
    assert read_folder(arrived) == contents
    worker.close()
    assert not arrived.exists()


def test_the_files_of_killed_workers_are_removed_by_the_next_run(tmp_path: Path) -> None:
    """Those of a run whose workers live stay, and so do those of a run that has just begun."""
    long_ago = time.time() - 2 * ABANDONED_SECONDS
    killed, begun, living = (tmp_path / f"genets-{uuid4().hex}" for _ in range(3))
    for place in (killed, begun):
        place.mkdir()
        (place / LOCK).touch()
        (place / "image.png").touch()
    (tmp_path / INPUT).write_text("ran")
    job = StubJob(tmp_path, tmp_path, data="digits")
    parcel = Parcel(job, job.inputs([]), None)
    worker, other = RayWorker(), RayWorker()
    worker.begin({}, "cpu", "fp32", str(tmp_path), living.name.removeprefix("genets-"))
    worker.prepare(parcel)
    for place in (killed, living):
        os.utime(place / LOCK, (long_ago, long_ago))
    other.begin({}, "cpu", "fp32", str(tmp_path), uuid4().hex)
    other.prepare(parcel)
    assert [place.exists() for place in (killed, begun, living)] == [False, True, True]
