"""Profiles: what is left out, chains of blocks, and sentences that follow from the data."""

from dataclasses import replace
from functools import cache

import pytest
import torch
from analysis_lab import candidate, measurement_of

from genets.analysis import Comparison, Timing
from genets.analysis.profile.findings import batch_sentence, block_sentence, cost_sentence
from genets.analysis.profile.profile import BlockChain, Profile, ProfileSettings, chains_of, profile
from genets.core.errors import GenetsError, TargetError
from genets.latency import Target
from genets.networks import count

SETTINGS = ProfileSettings(
    Target(batch_size=2, threads=1),
    batch_networks=("a", "b"),
    cost_networks=("a", "b", "c"),
    batch_sizes=(1, 2, 4, 8),
    widths=(32, 64),
    ratios=(1.0, 0.25),
    block_resolution=4,
    timing=Timing(time_limit_s=0.1),
)


@cache
def block_costs():
    """ms by name: XX costs its multiply-adds, BL half as much again, DW twice as much."""
    each = {"XX": 1e-6, "BL": 1.5e-6, "DW": 2e-6}
    chains = chains_of(SETTINGS.widths, SETTINGS.ratios)
    return {c.name: each[c.type] * count(c.network(), 4).multiply_adds for c in chains}


@pytest.fixture
def networks(lab, monkeypatch):
    """a is wide and slow, c narrow and quick."""
    lab.ms = {"a": 4.0, "b": 2.0, "c": 1.0}
    lab.ms |= block_costs()
    widths = {"a": 32, "b": 16, "c": 8}
    find = lambda name, resolution, seed: candidate(name, widths[name])  # noqa: E731
    monkeypatch.setattr("genets.analysis.profile.profile.find_network", find)
    return lab


def test_batches_stop_at_the_run_limit(networks):
    found = profile(replace(SETTINGS, run_limit_s=0.0125))
    sizes = {n: [r.target.batch_size for r in found.batches.rows if r.network == n] for n in "ab"}
    # a: 8 ms at batch 1; 12 ms for a batch of 2 is seen only once it was run
    assert sizes == {"a": [1], "b": [1, 2, 4]}
    assert found.left_out[:2] == ["a above batch size 1", "b above batch size 4"]
    assert "XX above width 32" in found.left_out


def test_larger_batches_are_not_tried_after_a_failure(networks, lab):
    lab.failing = {"b": "out of memory"}
    found = profile(SETTINGS)
    assert [(r.target.batch_size, r.error) for r in found.batches.rows if r.network == "b"] == [
        (1, "out of memory")
    ]
    assert "b above batch size 0" in found.left_out


def test_rows_are_kept_for_each_figure(networks, lab, tmp_path):
    profile(SETTINGS, folder=tmp_path)
    before = len(lab.runs)
    profile(SETTINGS, folder=tmp_path)
    assert len(lab.runs) == before
    names = [names for target, names in lab.runs if target.batch_size == 2]
    assert {"a", "b", "c"} in map(set, names)  # in one run, whatever the batch sweep measured


def test_sentences(networks):
    found = profile(SETTINGS)
    said = batch_sentence(found)
    assert "a 8 ms at batch size 1, 4.5 ms at 8 (1.8 times less, still falling" in said
    said = cost_sentence(found)
    assert "Over 3 networks the rank correlation of latency is 1.00 with multiply-adds" in said
    said = block_sentence(found)
    assert "at equal width DW with r = 0.25 is faster at 2 of 2 widths" in said
    assert "BL with r = 1 is slower at 2 of 2 widths" in said
    assert "at equal parameters BL is slower at 1 of 1 points (median 0.67 times" in said
    assert "as in the paper" in said


def test_a_rise_after_the_best_batch_size_is_told(networks, lab):
    found = profile(SETTINGS)
    rows = [r if r.target.batch_size < 8 else replace(r, measurement=measurement_of(
        40.0, r.target, 8)) for r in found.batches.rows]  # fmt: skip
    said = batch_sentence(replace(found, batches=Comparison(tuple(rows))))
    assert "a 8 ms at batch size 1, 5 ms at 4 (1.6 times less, then up to 40 ms at 8)" in said
    rows = [r for r in rows if r.target.batch_size > 2]
    said = batch_sentence(replace(found, batches=Comparison(tuple(rows))))
    assert "a 5 ms at batch size 4, the least (then up to 40 ms at 8)" in said


def with_interval(rows, share):
    """The same rows, each with an interval that reaches that share to both sides."""
    for row in rows:
        m = row.measurement
        ms = m.ms_per_image
        yield replace(row, measurement=replace(
            m, low_ms_per_image=(1 - share) * ms, high_ms_per_image=(1 + share) * ms, noisy=True
        ))  # fmt: skip


def noisy(found, share):
    """The profile with such intervals everywhere."""
    parts = {name: Comparison(tuple(with_interval(getattr(found, name).rows, share)))
             for name in ("batches", "costs", "blocks")}  # fmt: skip
    return replace(found, **parts)


def test_what_noise_hides_is_not_claimed(networks):
    found = noisy(profile(SETTINGS), 0.9)
    said = block_sentence(found)
    assert "is faster at 0 of 2 widths, too close to tell at 2" in said
    assert "so neither for nor against the paper" in said
    assert "as in the paper" not in said
    assert "unlike" not in said
    said = batch_sentence(found)
    assert "a 8 ms at batch size 1, 4.5 ms at 8 (too close to tell, perhaps still falling" in said


def test_what_can_be_told_beside_what_cannot(networks):
    found = profile(SETTINGS)
    wide = [row for row in found.blocks.rows if row.network.endswith("width 64")]
    narrow = [row for row in found.blocks.rows if row not in wide]
    mixed = Comparison((*narrow, *with_interval(wide, 0.9)))
    said = block_sentence(replace(found, blocks=mixed))
    assert "DW with r = 0.25 is faster at 1 of 2 widths, too close to tell at 1" in said
    assert "as in the paper, where it can be told" in said


def test_large_latencies_are_written_out(networks, lab):
    lab.ms = {name: 1e6 * ms for name, ms in lab.ms.items()}
    assert "a 8000000 ms at batch size 1, 4500000 ms at 8" in batch_sentence(profile(
        replace(SETTINGS, run_limit_s=1e9)))  # fmt: skip


def test_sentences_from_too_little():
    nothing = Profile(Comparison(), Comparison(), Comparison(), {}, SETTINGS)
    for sentence in (batch_sentence, cost_sentence, block_sentence):
        assert sentence(nothing).startswith("Too few")


@pytest.mark.parametrize(
    ("chain", "channels", "parameters"),
    [
        (BlockChain("XX", 32, 1.0), 32, 5 * (2 * 9 * 32 * 32)),
        (BlockChain("BL", 32, 0.25), 32, 10 * (2 * 32 * 8 + 9 * 8 * 8)),
        # The width of a DW block is here that of its depth-wise layer.
        (BlockChain("DW", 32, 0.25), 8, 10 * (2 * 32 * 8 + 9 * 32)),
    ],
)
def test_chains(chain, channels, parameters):
    network = chain.network()
    convolutions = [m for m in network.modules() if isinstance(m, torch.nn.Conv2d)]
    assert sum(m.weight.numel() for m in convolutions) == parameters
    with torch.no_grad():
        assert network.eval()(torch.zeros(1, channels, 6, 6)).shape == (1, channels, 6, 6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ratios": (1.5,)}, "ratio must be above 0 and at most 1, not 1.5"),
        ({"widths": (20,)}, "width times ratio must be a multiple of 8, but 20 times 1 is 20"),
        ({"batch_sizes": ()}, "batch_sizes must not be empty"),
        ({"run_limit_s": 0.0}, "run_limit_s must be above 0"),
        ({"resolution": 0}, "resolution must be above 0"),
    ],
)
def test_faults(networks, change, message):
    with pytest.raises(GenetsError, match=message):
        profile(replace(SETTINGS, **change))
    with pytest.raises(TargetError, match="batch_size"):
        profile(replace(SETTINGS, batch_sizes=(0,)))
