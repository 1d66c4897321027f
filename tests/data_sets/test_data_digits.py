"""The digits: splits, nuisance, batches."""

import math

import pytest
import torch

from genets.core.errors import DataError
from genets.data import Nuisance, load_data, load_digits, render
from genets.data.seeds import make_generator

STILL = Nuisance(
    rotation_degrees=0, scale=(1, 1), stretch=0, shear=0, shift=0, contrast=(1, 1), colour=0,
    tint=0, noise=0,
)  # fmt: skip


@pytest.fixture(scope="module")
def digits():
    return load_data("digits", 16)


def sources(split):
    return {tuple(source.flatten().tolist()) for source in split.sources}


def together(batches):
    images, labels = zip(*batches, strict=True)
    return torch.cat(images), torch.cat(labels)


def test_splits_hold_every_digit_once(digits):
    splits = digits.train, digits.validation, digits.test
    assert sum(len(split.sources) for split in splits) == 1797
    assert len(set().union(*(sources(split) for split in splits))) == sum(
        len(sources(split)) for split in splits
    )
    assert digits.num_classes == 10


def test_splits_are_stratified(digits):
    whole = torch.cat([s.labels for s in (digits.train, digits.validation, digits.test)])
    for split, share in ((digits.test, 0.25), (digits.validation, 0.15), (digits.train, 0.6)):
        expected = share * whole.bincount(minlength=10)
        assert torch.all((split.labels.bincount(minlength=10) - expected).abs() <= 1)


def test_seed_moves_validation_and_never_test(digits):
    other = load_data("digits", 16, seed=1)
    assert torch.equal(other.test.sources, digits.test.sources)
    assert sources(other.validation) != sources(digits.validation)
    assert sources(other.validation) | sources(other.train) == (
        sources(digits.validation) | sources(digits.train)
    )
    assert other.mean == digits.mean
    assert other.std == digits.std


def test_validation_share_and_views():
    data = load_digits(8, views=2)
    assert abs(4 * len(data.validation.sources) - len(data.train.sources)) <= 30
    assert len(data.validation) == 2 * len(data.validation.sources)


def test_batches_are_normalised_channels_last_float32(digits):
    for split, epoch in ((digits.train, 3), (digits.validation, None)):
        images, labels = next(split.batches(64, epoch=epoch))
        assert images.shape == (64, 3, 16, 16)
        assert images.dtype == torch.float32
        assert labels.dtype == torch.int64
        assert images.is_contiguous(memory_format=torch.channels_last)
    images, _ = together(digits.train.batches(64, epoch=0))
    assert abs(images.mean()) < 0.05
    assert abs(images.std() - 1) < 0.05


def test_epoch_is_determined_by_seed_and_number(digits):
    late, _ = together(digits.train.batches(50, epoch=7, seed=3))
    list(digits.train.batches(64, epoch=1, seed=3))
    again, _ = together(digits.train.batches(50, epoch=7, seed=3))
    assert torch.equal(late, again)
    for epoch, seed in ((8, 3), (7, 4)):
        other, _ = together(digits.train.batches(50, epoch=epoch, seed=seed))
        assert not torch.equal(late, other)


def test_epoch_does_not_depend_on_the_batch_size(digits):
    small, _ = together(digits.train.batches(7, epoch=2))
    large, _ = together(digits.train.batches(500, epoch=2))
    assert torch.equal(small[:1000], large)


def test_last_incomplete_batch(digits):
    count = len(digits.train)
    assert [len(y) for _, y in digits.train.batches(1000, epoch=0)] == [1000]
    assert [len(y) for _, y in digits.train.batches(5000, epoch=0)] == [count]
    assert sum(len(y) for _, y in digits.train.batches(1000)) == count


def test_an_epoch_shows_every_source_once(digits):
    _, labels = together(digits.train.batches(len(digits.train), epoch=0))
    assert torch.equal(labels.bincount(), digits.train.labels.bincount())


def test_evaluation_pass_is_fixed(digits):
    first, labels = together(digits.validation.batches(100))
    again, _ = together(load_data("digits", 16).validation.batches(333))
    assert torch.equal(first, again)
    assert len(first) == 4 * len(digits.validation.sources)
    assert torch.equal(labels, digits.validation.labels.repeat(4))
    one, two = first.chunk(4)[:2]
    assert not torch.equal(one, two)


def test_global_generator_is_not_touched(digits):
    state = torch.get_rng_state()
    list(digits.train.batches(64, epoch=0))
    assert torch.equal(state, torch.get_rng_state())


def test_without_nuisance_the_source_comes_back():
    source = torch.rand(5, 8, 8, generator=make_generator("test"))
    images = render(source, 8, STILL, make_generator("render"))
    # Grey, from 0.5 - 1/2 sqrt(1/3) to 0.5 + 1/2 sqrt(1/3) in each channel.
    grey = math.sqrt(1 / 3)
    expected = 0.5 - grey / 2 + grey * source
    assert torch.allclose(images, expected[:, None].expand(-1, 3, -1, -1), atol=1e-5)


def test_rotation_keeps_its_bounds():
    source = torch.zeros(400, 8, 8)
    source[:, 1, 3:5] = 1  # ink straight above the middle
    nuisance = Nuisance(**{**vars_of(STILL), "rotation_degrees": 30.0})
    images = render(source, 8, nuisance, make_generator("turn"))
    ink = (images[:, 0] - images[:, 0].amin()) / (images[:, 0].amax() - images[:, 0].amin())
    rows, columns = torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="ij")
    mass = ink.sum((1, 2))
    y, x = (ink * (rows - 3.5)).sum((1, 2)) / mass, (ink * (columns - 3.5)).sum((1, 2)) / mass
    degrees = torch.rad2deg(torch.atan2(x, -y))
    assert degrees.abs().max() < 31
    assert degrees.max() > 24
    assert degrees.min() < -24


@pytest.mark.parametrize(("field", "value"), [("shift", 0.25), ("scale", (0.5, 0.5))])
def test_shift_and_scale_keep_their_bounds(field, value):
    nuisance = Nuisance(**{**vars_of(STILL), field: value})
    images = render(torch.ones(200, 8, 8), 32, nuisance, make_generator("bounds"))
    inked = images[:, 0] > 0.5
    if field == "scale":
        assert inked[:, 9:23, 9:23].all()
        assert not inked[:, :7].any()
    else:
        # Shifted by at most a quarter of the canvas, the middle half is always inked.
        assert inked[:, 9:23, 9:23].all()
        assert inked.flatten(1).float().mean(1).min() > 0.75**2 - 0.05
        assert not inked.all()


def test_colours_keep_their_bounds():
    nuisance = Nuisance(**{**vars_of(STILL), "contrast": (0.4, 0.8), "colour": 2.0, "tint": 0.1})
    both = torch.zeros(300, 8, 8)
    both[:, :, 4:] = 1
    images = render(both, 8, nuisance, make_generator("colours"))
    paper, stroke = images[:, :, 4, 0], images[:, :, 4, 7]
    contrast = (stroke - paper).norm(dim=1)
    assert contrast.min() >= 0.4 - 1e-5
    assert contrast.max() <= 0.8 + 1e-5
    assert (((stroke + paper) / 2 - 0.5).abs() <= 0.1 + 1e-5).all()
    assert ((stroke - paper).sum(dim=1) < 0).float().mean() > 0.1  # some are dark on light


def test_noise_has_its_standard_deviation_and_is_white():
    nuisance = Nuisance(**{**vars_of(STILL), "noise": 0.3})
    images = render(torch.zeros(300, 8, 8), 16, nuisance, make_generator("noise"))
    noise = images - images.mean()
    assert abs(noise.std() - 0.3) < 0.005
    assert abs((noise[..., 1:] * noise[..., :-1]).mean()) < 0.002
    assert abs((noise[:, 0] * noise[:, 1]).mean()) < 0.002


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"noise": math.nan}, "nuisance noise must not be negative or NaN, not nan"),
        ({"shift": -1}, "nuisance shift must not be negative"),
        ({"scale": (1, 0.5)}, "nuisance scale must be positive numbers in ascending order"),
        ({"contrast": (0, 1)}, "nuisance contrast must be positive numbers in ascending order"),
        ({"scale": 0.5}, "nuisance scale must be two numbers, not 0.5"),
        ({"stretch": 1}, "nuisance stretch must be below 1, not 1"),
    ],
)
def test_bad_nuisance(change, message):
    with pytest.raises(DataError, match=message):
        Nuisance(**change)


@pytest.mark.parametrize("resolution", [7, 65, 16.5, True])
def test_bad_resolution(resolution):
    with pytest.raises(DataError, match="resolution for digits must be from 8 to 64 pixels"):
        load_data("digits", resolution)


def test_bad_batch_size_and_views(digits):
    with pytest.raises(DataError, match="batch_size must be a positive integer, not 0"):
        next(digits.train.batches(0))
    with pytest.raises(DataError, match="views must be a positive integer, not 0"):
        load_data("digits", 16, views=0)


@pytest.mark.parametrize("resolution", [8, 64])
def test_extreme_resolutions(resolution):
    images, _ = next(load_digits(resolution, views=1).test.batches(4))
    assert images.shape == (4, 3, resolution, resolution)
    assert images.isfinite().all()


def vars_of(nuisance):
    return {name: getattr(nuisance, name) for name in nuisance.__dataclass_fields__}
