"""The number of processes that read images, and their end."""

import gc
import multiprocessing
import os
import shutil
import signal
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from folder_lab import fill

from genets.core.errors import DataError
from genets.data import Share, load_data, pool


@pytest.mark.parametrize("all_batches", [True, False])
def test_readers_end_when_their_split_is_deleted(tmp_path, monkeypatch, all_batches):
    """The split is part of a reference cycle, so the garbage collector deletes it."""
    holder = SimpleNamespace(split=load_data(fill(tmp_path), 16, workers=2).train)
    holder.batches = holder.split.batches(4, epoch=0)
    holder.itself = holder
    others = multiprocessing.active_children()
    next(holder.batches)
    readers = [child for child in multiprocessing.active_children() if child not in others]
    if all_batches:
        assert len(list(holder.batches)) == 2
    killed = []
    monkeypatch.setattr(type(readers[0]), "terminate", lambda self: killed.append(self))
    monkeypatch.setattr(torch.utils.data._utils, "MP_STATUS_CHECK_INTERVAL", 3.0)  # in this process
    del holder
    gc.collect()
    assert killed == []
    assert [reader.exitcode for reader in readers] == [0, 0]


def test_no_other_process_reads_where_little_shared_memory_exists(monkeypatch):
    """A container may have little shared memory. Without the folder, PyTorch shares otherwise."""
    usage = shutil._ntuple_diskusage(64 << 20, 0, 64 << 20)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    assert pool._usual_workers(501, Share(), torch.device("cuda")) == 0
    monkeypatch.undo()
    monkeypatch.setattr(pool, "SHARED_MEMORY", "/nowhere")
    assert pool._usual_workers(501, Share(), torch.device("cuda")) > 0


class Fatal:
    """A transform that ends its process."""

    def __call__(self, image):
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_reader_is_named_in_the_error(tmp_path):
    split = replace(load_data(fill(tmp_path), 8, workers=1).train, training_transform=Fatal())
    with pytest.raises(DataError, match=r"has ended \(DataLoader worker .*\); memory, or"):
        list(split.batches(4, epoch=0))


def test_reading_depends_on_the_images_and_not_on_the_number_of_workers(tmp_path, monkeypatch):
    """So a run that continues with another number of workers keeps its number of threads."""
    fill(tmp_path)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    for few, reading in ((5, True), (500, False)):
        monkeypatch.setattr(pool, "FEW_IMAGES", few)
        assert [load_data(tmp_path, 8, workers=n).reading for n in (None, 0, 3)] == [reading] * 3


@pytest.mark.parametrize(
    ("images", "count", "threads", "device", "workers"),
    [(500, 1, 12, "cpu", 0), (501, 1, 12, "cpu", 8), (501, 4, 3, "cpu", 3),
     (501, 1, 2, "cpu", 2), (501, 1, 1, "cpu", 0), (10, 1, 1, "cuda", 8),
     (10, 4, 1, "cuda", 3), (10, 100, 1, "cuda", 1)],
)  # fmt: skip
def test_the_usual_number_of_readers(monkeypatch, images, count, threads, device, workers):
    monkeypatch.setattr(pool, "count_cpus", lambda: 12)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    assert pool._usual_workers(images, Share(0, count), torch.device(device)) == workers
