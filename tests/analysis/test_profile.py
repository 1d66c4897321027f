"""Profiles: series that end early, chains of blocks, and findings that follow from the data."""

import errno
import os
from dataclasses import replace
from functools import cache

import pytest
import torch
from analysis_lab import Lab, candidate, in_lab, measurement_of

from genets.analysis import Comparison, Timing
from genets.analysis.comparison.rows import load_rows, lock_rows
from genets.analysis.profile import findings as profile_findings
from genets.analysis.profile.findings import (
    batch_findings,
    batch_sentence,
    block_findings,
    block_sentence,
    cost_sentence,
)
from genets.analysis.profile.profile import (
    BlockChain,
    Profile,
    ProfileSettings,
    make_chains,
    profile,
)
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

FEW_BLOCKS = replace(SETTINGS, ratios=(1.0,))


@cache
def block_costs():
    """ms by name: XX costs its multiply-adds, BL half as much again, DW twice as much."""
    each = {"XX": 1e-6, "BL": 1.5e-6, "DW": 2e-6}
    chains = make_chains(SETTINGS.widths, SETTINGS.ratios)
    return {c.name: each[c.type] * count(c.network(), 4).multiply_adds for c in chains}


def put_networks(lab: Lab, patch: pytest.MonkeyPatch) -> None:
    """a is wide and slow, c narrow and quick."""
    lab.ms = {"a": 4.0, "b": 2.0, "c": 1.0}
    lab.ms |= block_costs()
    widths = {"a": 32, "b": 16, "c": 8}
    find = lambda name, resolution, seed: candidate(name, widths[name])  # noqa: E731
    patch.setattr("genets.analysis.profile.profile.find_network", find)


@pytest.fixture
def networks(lab, monkeypatch):
    put_networks(lab, monkeypatch)


@pytest.fixture(scope="module")
def complete() -> Profile:
    """The profile of all networks and blocks."""
    with pytest.MonkeyPatch.context() as patch:
        put_networks(in_lab(patch), patch)
        return profile(SETTINGS)


def test_batches_stop_at_the_run_limit(networks):
    found = profile(replace(FEW_BLOCKS, run_limit_s=0.0125))
    sizes = {n: [r.target.batch_size for r in found.batches.rows if r.network == n] for n in "ab"}
    # a: 8 ms at batch 1; 12 ms for a batch of 2 is seen only once it was run
    assert sizes == {"a": [1], "b": [1, 2, 4]}
    assert found.left_out[:2] == ["a above batch size 1", "b above batch size 4"]
    assert "XX above width 32" in found.left_out


def test_larger_batches_are_not_tried_after_a_failure(networks, lab):
    lab.failing = {"b": "out of memory"}
    found = profile(FEW_BLOCKS)
    assert [(r.target.batch_size, r.error) for r in found.batches.rows if r.network == "b"] == [
        (1, "out of memory")
    ]
    assert "b above batch size 0" in found.left_out


def test_rows_are_kept_for_each_figure(networks, lab, tmp_path):
    profile(FEW_BLOCKS, folder=tmp_path)
    before = len(lab.runs)
    profile(FEW_BLOCKS, folder=tmp_path)
    assert len(lab.runs) == before
    names = [names for target, names in lab.runs if target.batch_size == 2]
    assert {"a", "b", "c"} in map(set, names)  # in one run, whatever the batch sweep measured


@pytest.mark.parametrize("is_full", [True, False])
def test_a_full_disk_stops_no_figure(networks, complete, tmp_path, monkeypatch, is_full):
    """The disk is full for the first rows of each file, or for all rows."""
    tried, unsaved, replace_file = [], [], os.replace

    def full(source, target):
        tried.append(target)
        if is_full or tried.count(target) == 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        replace_file(source, target)

    monkeypatch.setattr(os, "replace", full)
    with pytest.warns(UserWarning, match="cannot be written"):
        found = profile(
            FEW_BLOCKS,
            folder=tmp_path,
            on_unsaved=lambda path, error: unsaved.append((path.name, error.strerror)),
        )
    chains = set(found.chains)
    expected = [row.key for row in complete.rows if row.network in {*"abc", *chains}]
    assert [row.key for row in found.rows] == expected
    assert all(row.measurement for row in found.rows)
    names = ["rows-by-batch-size.json", "rows-by-cost.json", "rows-blocks.json"]
    if is_full:
        assert unsaved == [(name, "No space left on device") for name in names]
    else:  # costs are written once, and the other files once for each batch size or width
        assert [name for name, _ in unsaved] == ["rows-by-cost.json"]
        for name, part in ((names[0], found.batches), (names[2], found.blocks)):
            stored = load_rows(tmp_path / name).rows
            assert {row.key: row for row in stored} == {row.key: row for row in part.rows}


def test_one_process_at_a_time_makes_a_profile(networks, lab, tmp_path):
    with lock_rows(tmp_path / "rows-blocks.json"), pytest.raises(GenetsError, match="in use"):
        profile(SETTINGS, folder=tmp_path)
    assert not lab.runs


def find(findings, network, compared_with="XX of equal width"):
    (finding,) = (f for f in findings if (f.network, f.compared_with) == (network, compared_with))
    return finding


def test_findings(complete, monkeypatch):
    found = complete
    assert cost_sentence(found) == (
        "Too few networks were measured to correlate latency with their size: 3 of at least 5; "
        "--network NAME, once for each, chooses them."
    )
    monkeypatch.setattr(profile_findings, "MIN_CORRELATED", 3)
    first, second = batch_findings(found)
    assert [(f.network, f.compared_with) for f in (first, second)] == [
        ("a, batch 8", "batch 1"), ("b, batch 8", "batch 1"),
    ]  # fmt: skip
    assert (first.ratio.times, first.ratio.verdict) == (pytest.approx(8 / 4.5), "faster")
    # Intervals reach 1 % to both sides.
    assert first.ratio.low == pytest.approx(8 / 4.5 * 0.99 / 1.01)
    assert first.ratio.high == pytest.approx(8 / 4.5 * 1.01 / 0.99)
    assert batch_sentence(found) == (
        "The larger batch size has the lower latency per image in 2 of 2 comparisons; "
        "0 are unclear."
    )
    said = cost_sentence(found)
    assert "Over 3 networks, the rank correlation of latency is 1.00 with multiply-adds" in said
    blocks, costs = block_findings(found), block_costs()
    for width in (32, 64):
        fast = find(blocks, f"DW r=0.25 width {width}")
        expected = costs[f"XX width {width}"] / costs[f"DW r=0.25 width {width}"]
        assert fast.ratio.times == pytest.approx(expected)
        assert (fast.ratio.verdict, fast.paper) == ("faster", "faster")
        slow = find(blocks, f"BL r=1 width {width}")
        assert (slow.ratio.verdict, slow.paper) == ("slower", "slower")
        assert find(blocks, f"BL r=0.25 width {width}").paper == "faster"
        assert find(blocks, f"DW r=1 width {width}").paper is None
    at_equal_parameters = [f for f in blocks if f.compared_with == "XX of equal parameters"]
    bl = [f.ratio for f in at_equal_parameters if f.network.startswith("BL")]
    assert [(round(ratio.times, 2), ratio.verdict) for ratio in bl] == [(0.67, "slower")]
    claimed = 6 + len(at_equal_parameters)
    assert block_sentence(found) == (
        f"The paper's order of BL, DW and XX holds in {claimed} of {claimed} comparisons; "
        "0 contradict it and 0 are unclear."
    )


def test_a_rise_after_the_best_batch_size_is_shown(complete):
    rows = [r if r.target.batch_size < 8 else replace(r, reference=None, measurement=measurement_of(
        40.0, r.target, 8)) for r in complete.batches.rows]  # fmt: skip
    findings = batch_findings(replace(complete, batches=Comparison(tuple(rows))))
    assert find(findings, "a, batch 4", "batch 1").ratio.times == pytest.approx(8 / 5)
    rise = find(findings, "a, batch 8", "batch 4").ratio
    assert (rise.times, rise.verdict) == (pytest.approx(5 / 40), "slower")
    rows = [r for r in rows if r.target.batch_size > 2]
    findings = batch_findings(replace(complete, batches=Comparison(tuple(rows))))
    assert [(f.network, f.ratio.verdict) for f in findings] == [
        ("a, batch 8", "slower"), ("b, batch 8", "slower"),
    ]  # fmt: skip


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


def test_a_claim_that_noise_hides_is_unclear(complete):
    found = noisy(complete, 0.9)
    findings = [*block_findings(found), *batch_findings(found)]
    assert {finding.ratio.verdict for finding in findings} == {"unclear"}
    assert all(finding.ratio.low < 1 < finding.ratio.high for finding in findings)
    said = block_sentence(found)
    assert "holds in 0 of" in said
    assert "; 0 contradict it and " in said
    assert batch_sentence(found) == (
        "The larger batch size has the lower latency per image in 0 of 2 comparisons; "
        "2 are unclear."
    )


def test_a_clear_claim_beside_an_unclear_one(complete):
    wide = [row for row in complete.blocks.rows if row.network.endswith("width 64")]
    narrow = [row for row in complete.blocks.rows if row not in wide]
    mixed = replace(complete, blocks=Comparison((*narrow, *with_interval(wide, 0.9))))
    blocks = block_findings(mixed)
    assert find(blocks, "DW r=0.25 width 32").ratio.verdict == "faster"
    assert find(blocks, "DW r=0.25 width 64").ratio.verdict == "unclear"
    assert "; 0 contradict it and " in block_sentence(mixed)


def test_too_few_rows_give_no_findings():
    nothing = Profile(Comparison(), Comparison(), Comparison(), {}, SETTINGS)
    assert batch_findings(nothing) == block_findings(nothing) == []
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
