"""Data sets by timm's names, from small files made here."""

import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import CIFAR10, MNIST

from genets.core.errors import DataError
from genets.data import load_data
from genets.data import timm_dataset as timm_name


def together(batches):
    images, labels = zip(*batches, strict=True)
    return torch.cat(images), torch.cat(labels)


def images_of(classes, count, seed=0):
    rng = np.random.default_rng(seed)
    labels = [label for label in range(classes) for _ in range(count)]
    images = [Image.fromarray(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8)) for _ in labels]
    return list(zip(images, labels, strict=True))


class Stored(list):
    """A map-style data set as the seam sees it."""

    classes = ("ant", "bee", "cow")


def serve(monkeypatch, splits):
    """Let timm give these splits; a missing one raises as the Hugging Face reader does."""

    def create_dataset(name, *, root, split, download):
        if split not in splits:
            raise ValueError(f'Unknown split "{split}". Should be one of {sorted(splits)}.')
        if isinstance(splits[split], Exception):
            raise splits[split]
        return splits[split]

    monkeypatch.setattr(timm_name, "create_dataset", create_dataset)


@pytest.fixture
def cifar(tmp_path, monkeypatch):
    """A CIFAR-10 of 60 training and 20 test images in torchvision's own files."""
    folder = tmp_path / CIFAR10.base_folder
    folder.mkdir()
    rng = np.random.default_rng(0)

    def batch(name, count):
        pixels = rng.integers(0, 256, (count, 3072), dtype=np.uint8)
        content = {"data": pixels, "labels": [i % 10 for i in range(count)]}
        (folder / name).write_bytes(pickle.dumps(content))

    for number in range(1, 6):
        batch(f"data_batch_{number}", 20)
    batch("test_batch", 20)
    names = [f"class {i}" for i in range(10)]
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": names}))
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda *_: True)
    return tmp_path


def test_torchvision_name(cifar):
    data = load_data("torch/cifar10", 32, root=cifar)
    assert data.class_names[3] == "class 3"
    assert [len(s) for s in (data.train, data.validation, data.test)] == [80, 20, 20]
    _, labels = together(data.test.batches(7))
    assert labels.tolist() == [i % 10 for i in range(20)]
    images, _ = next(data.train.batches(16, epoch=0))
    assert images.shape == (16, 3, 32, 32)


def test_own_splits_of_a_named_data_set(monkeypatch):
    splits = {name: Stored(images_of(3, n)) for name, n in (("train", 8), ("validation", 4))}
    serve(monkeypatch, splits)
    data = load_data("hfds/small", 8)
    assert data.class_names == ("ant", "bee", "cow")
    assert [len(s) for s in (data.train, data.validation, data.test)] == [18, 12, 6]


@pytest.mark.parametrize(
    ("stored", "needed", "loaded"),
    [
        (("validation", "test"), ("test",), ["train", "test"]),
        (("validation", "test"), ("validation",), ["train", "validation"]),
        (("test",), ("validation",), ["train", "validation", "test"]),  # decides what is cut off
        (("validation", "test"), ("train",), ["train", "validation", "test"]),
    ],
)
def test_splits_that_are_not_needed_are_not_loaded(monkeypatch, stored, needed, loaded):
    splits = {name: Stored(images_of(3, 8, seed)) for seed, name in enumerate(("train", *stored))}
    serve(monkeypatch, splits)
    whole = load_data("hfds/small", 8)
    asked = []
    create = timm_name.create_dataset
    monkeypatch.setattr(
        timm_name, "create_dataset", lambda *a, **k: asked.append(k["split"]) or create(*a, **k)
    )
    part = load_data("hfds/small", 8, splits=needed)
    assert asked == loaded
    for name in needed:
        (images, labels), (same, classes) = (
            together(getattr(data, name).batches(4)) for data in (part, whole)
        )
        assert torch.equal(images, same)
        assert torch.equal(labels, classes)


def test_a_test_split_without_labels_counts_as_missing(monkeypatch):
    hidden = Stored((image, -1) for image, _ in images_of(3, 2))
    serve(monkeypatch, {"train": Stored(images_of(3, 10)), "test": hidden})
    data = load_data("hfds/small", 8)
    assert [len(s) for s in (data.train, data.validation, data.test)] == [18, 6, 6]


def test_streams_are_read_into_memory(monkeypatch):
    stream = images_of(2, 5)

    class Stream:
        def __iter__(self):
            return iter(stream)

    serve(monkeypatch, {"train": Stream()})
    data = load_data("tfds/small", 8)
    assert data.class_names == ("0", "1")
    assert [len(s) for s in (data.train, data.validation, data.test)] == [6, 2, 2]
    monkeypatch.setattr(timm_name, "MAX_IN_MEMORY", 9)
    with pytest.raises(DataError, match="is a stream of more than 9 images; store it as a folder"):
        load_data("tfds/small", 8)


def test_grey_images_become_rgb(tmp_path, monkeypatch):
    # A view of MNIST's class without its files: grey images and targets as a tensor.
    grey = MNIST.__new__(MNIST)
    grey.transform = grey.target_transform = None
    grey.data = torch.zeros(100, 28, 28, dtype=torch.uint8)
    grey.targets = torch.arange(100) % 10
    serve(monkeypatch, {"train": grey, "validation": grey})
    images, _ = next(load_data("torch/mnist", 16, root=tmp_path).train.batches(4))
    assert images.shape == (4, 3, 16, 16)


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (ModuleNotFoundError("No module named 'datasets'"), "No module named 'datasets'"),
        (ConnectionError("Couldn't reach the Hub.\nmore lines"), "Couldn't reach the Hub$"),
        (AssertionError("Unknown torchvision dataset nope"), "Unknown torchvision dataset nope"),
        (RuntimeError(), "RuntimeError"),
    ],
)
def test_failures_become_one_sentence(monkeypatch, failure, reason):
    serve(monkeypatch, {"train": failure})
    with pytest.raises(DataError, match=f"data set hfds/some cannot be loaded: {reason}"):
        load_data("hfds/some", 8)


def test_a_network_failure_of_a_later_split_is_no_missing_split(monkeypatch):
    failure = ConnectionError("connection lost")
    serve(monkeypatch, {"train": Stored(images_of(3, 8)), "validation": failure})
    with pytest.raises(DataError, match="hfds/some cannot be loaded: connection lost"):
        load_data("hfds/some", 8)


def test_a_damaged_test_split_of_torchvision_is_no_missing_split(monkeypatch, tmp_path):
    failure = RuntimeError("Dataset not found or corrupted. You can use download=True")
    serve(monkeypatch, {"train": Stored(images_of(3, 8)), "validation": failure})
    message = f"the test split of data set torch/cifar10 cannot be loaded: Data.*; .* in {tmp_path}"
    with pytest.raises(DataError, match=message):
        load_data("torch/cifar10", 8, root=tmp_path)


@pytest.mark.parametrize(
    ("prefix", "error", "is_missing"),
    [
        ("hfds", ValueError, True),
        ("hfds", RuntimeError, False),
        ("hfids", ValueError, True),
        ("tfds", KeyError, True),
        ("tfds", AssertionError, False),
        ("wds", RuntimeError, True),
        ("wds", ValueError, False),
    ],
)
def test_a_reader_has_its_own_errors_of_a_missing_split(monkeypatch, prefix, error, is_missing):
    splits = dict.fromkeys(("validation", "test"), error("no such split"))
    serve(monkeypatch, {"train": Stored(images_of(3, 8)), **splits})
    if is_missing:
        assert len(load_data(f"{prefix}/some", 8).test) > 0
    else:
        with pytest.raises(DataError, match=f"{prefix}/some cannot be loaded: "):
            load_data(f"{prefix}/some", 8)


def test_training_images_without_a_class(monkeypatch):
    serve(monkeypatch, {"train": Stored([(images_of(1, 1)[0][0], None)] * 4)})
    with pytest.raises(DataError, match="training split of hfds/some has images without a class"):
        load_data("hfds/some", 8)


def test_unknown_torchvision_name(tmp_path):
    with pytest.raises(DataError, match="torch/nope cannot be loaded: Unknown torchvision dataset"):
        load_data("torch/nope", 8, root=tmp_path)


def test_standard_output_stays_clean(monkeypatch, capsys):
    def talkative(*_, **__):
        print("Please install something.")  # noqa: T201
        raise ImportError("no something")

    monkeypatch.setattr(timm_name, "create_dataset", talkative)
    with pytest.raises(DataError, match="no something"):
        load_data("hfds/some", 8)
    assert capsys.readouterr().out == ""
