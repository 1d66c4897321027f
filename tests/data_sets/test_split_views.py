"""Splits seen otherwise."""

import torch

from genets.data import load_digits
from genets.data.split import JoinedSplit, normalised_as


def passed(split, **how):
    images, labels = zip(*split.batches(100, **how), strict=True)
    return torch.cat(images), torch.cat(labels)


def test_joined_splits_show_every_image_once():
    data = load_digits(8, views=1)
    parts = (data.test, data.validation, data.train)
    joined = JoinedSplit(parts)
    images, labels = passed(joined)
    assert len(joined) == len(images) == len(labels) == sum(map(len, parts)) == 1797
    assert images.equal(torch.cat([passed(part)[0] for part in parts]))


def test_images_as_another_network_expects_them():
    data = load_digits(8, views=1)
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.3, 0.4)
    (own, labels), (other, same) = passed(data.test), passed(
        normalised_as(data.test, data, mean, std)
    )  # fmt: skip
    pixels = own * torch.tensor(data.std).view(1, 3, 1, 1) + torch.tensor(data.mean).view(
        1, 3, 1, 1
    )
    expected = (pixels - torch.tensor(mean).view(1, 3, 1, 1)) / torch.tensor(std).view(1, 3, 1, 1)
    torch.testing.assert_close(other, expected)
    assert labels.equal(same)
    assert len(normalised_as(data.test, data, mean, std)) == len(data.test)


def test_its_own_normalisation_changes_nothing():
    data = load_digits(8, views=1)
    assert normalised_as(data.test, data, list(data.mean), list(data.std)) is data.test
