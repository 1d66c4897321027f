"""Spectra of kernels whose singular values are known, and of random ones."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad

from genets.analysis.rank.spectrum import compute_spectrum, random_curve, random_share
from genets.core.errors import GenetsError


def normal(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def orthogonal(size, seed):
    return torch.linalg.qr(normal(size, size, seed=seed)).Q


def kernel_with(values, fan_in=(4, 3, 3), seed=1):
    """A kernel (c_out, c_in, k, k) with these singular values."""
    channels, columns = len(values), math.prod(fan_in)
    right = torch.linalg.qr(normal(columns, channels, seed=seed)).Q
    matrix = orthogonal(channels, seed) @ torch.diag(torch.tensor(values).double()) @ right.T
    return matrix.reshape(channels, *fan_in)


def test_a_kernel_of_known_singular_values():
    values = [8.0, 4.0, 2.0, 1.0, 0.5, 0.0, 0.0, 0.0]
    found = compute_spectrum(kernel_with(values))
    assert found.values == pytest.approx(np.array(values) / 8, abs=1e-12)
    assert found.largest == pytest.approx(8)
    assert found.stable_rank == pytest.approx((64 + 16 + 4 + 1 + 0.25) / 64)
    shares = np.array(values[:5]) / 15.5
    assert found.effective_rank == pytest.approx(np.exp(-(shares * np.log(shares)).sum()))
    assert found.directions() == 2  # 64 of 85.25 are not 90 %, 80 are
    assert found.kept(0.25) == pytest.approx(80 / 85.25)
    assert found.kept(5 / 8) == pytest.approx(1)


@pytest.mark.parametrize("rank", [1, 3, 8])
def test_a_kernel_of_known_rank_with_equal_values(rank):
    found = compute_spectrum(kernel_with([3.0] * rank + [0.0] * (8 - rank)))
    assert (found.values > 1e-10).sum() == rank
    assert found.stable_rank == pytest.approx(rank)
    assert found.effective_rank == pytest.approx(rank)
    assert found.directions() == math.ceil(0.9 * rank)
    assert found.kept(rank / 8) == pytest.approx(1)


def test_equal_values_are_counted_exactly():
    weight = torch.zeros(10, 10, 3, 3)
    weight[:, :, 1, 1] = torch.eye(10)
    assert compute_spectrum(weight).directions() == 9
    assert compute_spectrum(weight).kept(0.3) == pytest.approx(0.3)


def test_kept_is_that_of_the_best_low_rank_approximation():
    """A 3 x 3 convolution to 4 channels and a 1x1 from there, fitted to the kernel."""
    weight = normal(16, 8, 3, 3)
    matrix = weight.reshape(16, -1)
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    approximation = left[:, :4] @ torch.diag(values[:4]) @ right[:4]
    lost = ((matrix - approximation) ** 2).sum() / (matrix**2).sum()
    assert compute_spectrum(weight).kept(0.25) == pytest.approx(1 - lost.item())
    poorer = orthogonal(16, 3)[:, :4]  # any other four channels
    projected = poorer @ poorer.T @ matrix
    assert ((projected**2).sum() / (matrix**2).sum()).item() < compute_spectrum(weight).kept(0.25)


@settings(max_examples=20)
@given(st.floats(1e-6, 1e6), st.integers(0, 10**6))
def test_scale_and_rotation_change_nothing(scale, seed):
    weight = normal(12, 4, 3, 3)
    rotated = orthogonal(12, seed) @ weight.reshape(12, -1) @ orthogonal(36, seed + 1)
    before = compute_spectrum(weight)
    after = compute_spectrum(scale * rotated.reshape(12, 4, 3, 3))
    assert after.values == pytest.approx(before.values, abs=1e-9)
    assert after.largest == pytest.approx(scale * before.largest)
    assert after.stable_rank == pytest.approx(before.stable_rank)
    assert after.effective_rank == pytest.approx(before.effective_rank)
    assert after.directions() == before.directions()


@pytest.mark.parametrize(
    ("c_out", "c_in", "groups"), [(12, 12, 3), (12, 6, 2), (8, 8, 8), (8, 4, 4)]
)
def test_a_grouped_kernel_is_the_full_one_with_zeros(c_out, c_in, groups):
    weight = normal(c_out, c_in // groups, 3, 3)
    full = torch.zeros(c_out, c_in, 3, 3, dtype=torch.float64)
    for group, part in enumerate(weight.chunk(groups)):
        rows, columns = c_out // groups, c_in // groups
        full[group * rows :, group * columns :][:rows, :columns] = part
    assert compute_spectrum(weight, groups).values == pytest.approx(compute_spectrum(full).values)


def test_the_values_of_a_depth_wise_kernel_are_the_norms_of_its_filters():
    weight = normal(16, 1, 5, 5)
    norms = np.sort(weight.flatten(1).norm(dim=1).numpy())[::-1]
    assert compute_spectrum(weight, 16).values == pytest.approx(norms / norms[0])


def test_more_channels_than_inputs_leave_zeros():
    found = compute_spectrum(normal(32, 1, 3, 3))
    assert found.channels == 32
    assert (found.values > 0).sum() == 9


def test_weights_without_a_rank_are_refused():
    with pytest.raises(GenetsError, match="all zero"):
        compute_spectrum(torch.zeros(4, 4, 3, 3))
    with pytest.raises(GenetsError, match="not finite"):
        compute_spectrum(torch.full((4, 4, 3, 3), math.nan))


@pytest.mark.parametrize(("c_out", "c_in"), [(256, 256), (256, 64), (300, 20)])
def test_random_kernels_follow_marchenko_and_pastur(c_out, c_in):
    found = compute_spectrum(normal(c_out, c_in, 3, 3))
    fan_in = 9 * c_in
    low, high = (abs(math.sqrt(fan_in) + sign * math.sqrt(c_out)) for sign in (-1, 1))
    values = found.values[found.values > 0] * found.largest
    assert values[0] == pytest.approx(high, rel=0.02)
    assert values[-1] == pytest.approx(low, abs=0.05 * high)
    assert found.directions() / c_out == pytest.approx(random_share(c_out, fan_in), abs=0.012)
    assert found.stable_rank == pytest.approx(c_out * fan_in / high**2, rel=0.04)
    index, curve = random_curve(c_out, fan_in)
    own = (np.arange(len(values)) + 1) / c_out
    assert np.abs(np.interp(own, index, curve) - found.values[: len(values)]).max() < 0.04


@pytest.mark.parametrize("aspect", [1 / 9, 0.5, 1.0, 0.01])
@pytest.mark.parametrize("energy", [0.5, 0.9])
def test_the_random_share_is_the_integral_of_the_density(aspect, energy):
    low, high = (1 - math.sqrt(aspect)) ** 2, (1 + math.sqrt(aspect)) ** 2
    long, share = 3600, random_share(round(3600 * aspect), 3600, energy)

    def density(square):
        return math.sqrt(max((high - square) * (square - low), 0)) / (
            2 * math.pi * aspect * max(square, 1e-300)
        )

    index, curve = random_curve(round(long * aspect), long)
    edge = float(np.interp(share, index, curve)) ** 2 * high
    assert quad(density, edge, high, limit=200)[0] == pytest.approx(share, abs=1e-4)
    held = quad(lambda square: square * density(square), edge, high, limit=200)[0]
    assert held == pytest.approx(energy, abs=1e-4)


def test_a_tall_random_kernel_has_the_share_of_a_wide_one():
    assert random_share(90, 10) == pytest.approx(random_share(10, 90) / 9)
