"""Comparisons against a lab of known latencies."""

import errno
import json
import os
from dataclasses import astuple, replace

import numpy as np
import pytest
from analysis_lab import candidate
from scipy.stats import binom
from torch import nn

from genets.analysis import (
    ComparedNetwork,
    Comparison,
    Timing,
    compare,
    find_networks,
    run_note,
)
from genets.analysis.comparison.compare import in_chunks
from genets.analysis.comparison.rows import ReferenceNetwork, load_rows, lock_rows
from genets.core.errors import GenetsError, TargetError
from genets.latency import Target
from genets.networks.baselines import baselines

SMALL, LARGE = (Target(batch_size=size, threads=1) for size in (1, 4))


def limit_memory(monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    name = "genets.analysis.comparison.compare.max_prepared_bytes"
    monkeypatch.setattr(name, lambda target: limit)


def references(found: Comparison) -> list[str | None]:
    return [row.reference and row.reference.name for row in found.rows]


def test_all_networks_of_a_target_share_a_run(lab):
    lab.ms = {"a": 1.0, "b": 2.0, "c": 3.0}
    found = compare([candidate(name) for name in "abc"], [SMALL, LARGE])
    assert [(target, set(names)) for target, names in lab.runs] == [
        (SMALL, set("abc")),
        (LARGE, set("abc")),
    ]
    assert [row.ms_per_image for row in found.on(LARGE)] == [1.25, 2.5, 3.75]
    assert found.networks == ("a", "b", "c")
    assert {row.run for row in found.rows} == {1}
    assert run_note(found, SMALL) is None


def test_sizes_are_counted(lab):
    lab.ms = {"a": 1.0}
    (row,) = compare([candidate("a", width=5)], [SMALL]).rows
    assert (row.parameters, row.multiply_adds) == (5 * 3 * 9 + 5, 5 * 27 * 6 * 6)


def test_a_network_that_cannot_be_measured_is_a_row_that_says_why(lab):
    lab.ms, lab.failing = {"a": 1.0, "c": 3.0}, {"b": "operator aten::odd is not exported"}
    found = compare([candidate(name) for name in "abc"], [SMALL])
    assert [row.error for row in found.rows] == [None, "operator aten::odd is not exported", None]
    assert [len(names) for _, names in lab.runs] == [3, 1]  # tried once more, alone


def test_a_network_that_fits_alone_is_measured_alone(lab):
    lab.ms, lab.crowded = {"a": 1.0, "b": 2.0}, {"b"}
    found = compare([candidate("a"), candidate("b")], [LARGE])
    assert [row.ms_per_image for row in found.rows] == [1.25, 2.5]
    assert found.rows[0].run != found.rows[1].run
    assert set(references(found)) == {None}
    assert "2 runs" in run_note(found, LARGE)


def test_rows_have_their_ratio_to_the_reference(lab):
    lab.ms = {"a": 1.0, "b": 2.0, "c": 4.0}
    networks = [candidate(name, 8 + 8 * (name != "b")) for name in "abc"]
    found = compare(networks, [SMALL, LARGE])
    assert references(found) == ["b"] * 6  # the smallest network
    assert [row.ratio.median for row in found.on(LARGE)] == [0.5, 1.0, 2.0]
    chosen = compare(networks, [SMALL, LARGE], reference="c")
    assert references(chosen) == ["c"] * 6
    assert [row.ratio.median for row in chosen.on(LARGE)] == [0.25, 0.5, 1.0]
    assert [record["times_reference"] for record in chosen.summary()[:3]] == [0.25, 0.25, 0.5]
    assert lab.runs[-1] == (LARGE, ["c", "a", "b"])


def test_ratios_are_those_of_the_stored_samples(fake_engine, device, tmp_path):
    rng, file = np.random.default_rng(0), tmp_path / "rows.json"
    fake_engine(lambda network, *_: 1e-3 * network.out_channels)
    device.slowness = lambda now_s: rng.uniform(1.0, 1.2)
    networks = [candidate(name, width) for name, width in (("a", 5), ("b", 2), ("c", 8))]
    compare(networks, [Target(engine="fake", batch_size=1)], file=file)
    rows = {row.network: row for row in load_rows(file).rows}
    for row in rows.values():
        samples, others = (rows[name].measurement.samples_ms for name in (row.network, "b"))
        ratios = sorted(a / b for a, b in zip(samples, others, strict=True))
        count = len(ratios)
        rank = max(k for k in range(1, count) if 2 * binom.cdf(k - 1, count, 0.5) <= 0.05)
        middle, low, high = np.median(ratios), ratios[rank - 1], ratios[count - rank]
        assert astuple(row.ratio) == pytest.approx((middle, low, high))
        assert max(high - middle, middle - low) <= 0.01 * middle
        assert not row.measurement.noisy
        assert row.reference == ReferenceNetwork("b", 8)


@pytest.mark.parametrize("step", ["prepare", "build"])
def test_a_reference_that_fails_fails_no_other_row(fake_engine, monkeypatch, step):
    build = ComparedNetwork.network

    def fail_at(reached, is_reference):
        if is_reference and reached == step:
            raise TargetError("no memory is left")

    def build_network(network, device):
        fail_at("build", network.name == "a")
        return build(network, device)

    def cost_s(network, *_):
        fail_at("prepare", network.out_channels == 2)
        return 1e-3

    monkeypatch.setattr(ComparedNetwork, "network", build_network)
    fake_engine(cost_s)
    networks = [candidate("a", 2), candidate("b"), candidate("c")]
    found = compare(networks, [Target(engine="fake", batch_size=1)])
    assert [row.error for row in found.rows] == ["no memory is left", None, None]
    assert {(row.ratio, row.reference) for row in found.rows} == {(None, None)}
    assert {row["times_reference"] for row in found.summary()} == {None}


def test_an_unknown_reference_is_refused_before_anything_is_measured(lab, tmp_path):
    file = tmp_path / "new" / "rows.json"
    with pytest.raises(GenetsError, match="unknown reference 'genet_lite'; did you mean genet_l"):
        compare(
            [candidate("genet_light"), candidate("b")], [SMALL], reference="genet_lite", file=file
        )
    assert not lab.runs
    assert not file.parent.exists()


def test_a_reference_that_does_not_run_at_all_is_replaced(lab, tmp_path):
    lab.ms, file = {"a": 1.0, "b": 2.0}, tmp_path / "rows.json"
    broken = ComparedNetwork("broken", "x", 1, lambda: nn.Conv2d(3, 4, 3))
    networks = [candidate("a"), candidate("b"), broken]
    for _ in range(2):  # the second time, all rows but the failed one are in the file
        with pytest.warns(UserWarning, match="another network is the reference, because"):
            found = compare(networks, [SMALL], reference="broken", file=file)
        assert references(found) == ["a", "a", None]
    assert len(lab.runs) == 1


def test_a_file_continues_with_its_reference(lab, tmp_path):
    lab.ms, file = dict.fromkeys("abc", 1.0), tmp_path / "rows.json"
    networks = [candidate("a", 16), candidate("b", 32)]
    first = compare(networks, [SMALL], reference="b", file=file)
    found = compare([*networks, candidate("c", 8)], [SMALL], file=file)
    assert lab.runs[-1] == (SMALL, ["b", "c"])
    assert found.rows[:2] == first.rows
    assert references(found) == ["b"] * 3
    # Where the file's reference is not compared, rows say to which network their ratio is.
    lab.ms["d"] = 1.0
    found = compare([networks[0], candidate("c", 8), candidate("d", 64)], [SMALL], file=file)
    assert references(found) == ["b", "b", "c"]
    assert found.references_on(SMALL) == (ReferenceNetwork("b", 8), ReferenceNetwork("c", 8))


def test_a_reference_at_another_resolution_is_another_reference(lab, tmp_path):
    lab.ms, file = {"a": 1.0, "b": 2.0}, tmp_path / "rows.json"
    small, b = candidate("a"), candidate("b", 64)
    compare([small, b], [SMALL], file=file)
    large = replace(small, resolution=16)
    found = compare([large, b], [SMALL], file=file)
    assert [row.reference for row in found.rows] == [None, ReferenceNetwork("a", 8)]
    with pytest.raises(GenetsError, match=r"reference\.resolution: 8 in the file, 16 here"):
        compare([large, b], [SMALL], reference="a", file=file)


def test_ratios_to_another_reference_are_refused(lab, tmp_path):
    lab.ms, file = dict.fromkeys("abc", 1.0), tmp_path / "rows.json"
    networks = [candidate("a"), candidate("b", 16)]
    first = compare(networks, [SMALL], file=file)
    with pytest.raises(GenetsError, match=r"reference\.name: a in the file, b here; remove it, or"):
        compare([*networks, candidate("c")], [SMALL, LARGE], reference="b", file=file)
    assert len(lab.runs) == 1
    assert compare(networks, [SMALL], reference="a", file=file) == first
    compare(networks, [LARGE], reference="b", file=file)  # no row of this target has a ratio yet


def test_rows_of_older_files_have_no_ratio_and_are_not_measured_again(lab, tmp_path):
    lab.ms, file = dict.fromkeys("abc", 1.0), tmp_path / "rows.json"
    networks = [candidate("a"), candidate("b", 16)]
    compare(networks, [SMALL], file=file)
    content = json.loads(file.read_text())
    for row in content["rows"]:
        del row["reference"], row["measurement"]["ratio"]
    file.write_text(json.dumps(content))
    for reference in (None, "b"):
        found = compare(networks, [SMALL], reference=reference, file=file)
        assert [(row.reference, row.ratio) for row in found.rows] == [(None, None)] * 2
    assert len(lab.runs) == 1
    found = compare([*networks, candidate("c")], [SMALL], reference="b", file=file)
    assert references(found) == [None, None, "b"]


def test_a_failing_reference_is_tried_once_alone(lab, monkeypatch):
    lab.ms, lab.failing = dict.fromkeys("bcd", 1.0), {"a": "operator aten::odd is not exported"}
    limit_memory(monkeypatch, 0)
    found = compare([candidate(name, 8 + 8 * (name != "a")) for name in "abcd"], [SMALL])
    assert [names for _, names in lab.runs] == [["a", "b"], ["a", "c"], ["a", "d"], ["a"]]
    assert [row.error is None for row in found.rows] == [False, True, True, True]


def test_a_known_reference_that_fails_now_keeps_its_row(lab, tmp_path):
    lab.ms, file = {"a": 1.0, "b": 2.0}, tmp_path / "rows.json"
    networks = [candidate("a"), candidate("b", 64)]
    first = compare(networks[:1], [SMALL], file=file)
    lab.failing = {"a": "no memory is left"}
    found = compare(networks, [SMALL], file=file)
    assert found.row("a", SMALL) == first.rows[0]
    assert found.row("b", SMALL).ms_per_image == 4.0


def test_a_network_that_does_not_run_at_all_is_not_tried(lab):
    lab.ms = {"a": 1.0}
    broken = ComparedNetwork("broken", "x", 1, lambda: nn.Conv2d(3, 4, 3))
    found = compare([candidate("a"), broken], [SMALL])
    assert "does not run at resolution 1" in found.row("broken", SMALL).error
    assert found.row("broken", SMALL).parameters is None
    assert lab.runs == [(SMALL, ["a"])]


def test_chunks_share_the_reference(lab, monkeypatch):
    lab.ms = dict.fromkeys("abcd", 1.0)
    widths = {"a": 64, "b": 8, "c": 64, "d": 64}
    networks = [candidate(name, width) for name, width in widths.items()]
    # In fp32: the weights of the network as it was built and as it runs, and the inputs.
    sizes = {name: 4 * (2 * 28 * width + 4 * 3 * 8**2) for name, width in widths.items()}
    largest = 4 * 4 * (3 * 8**2 + 64 * 6**2)  # feature maps, whose memory all networks share
    limit = sizes["a"] + sizes["b"] + sizes["c"] + 2 * largest
    monkeypatch.setattr(
        "genets.analysis.comparison.compare.max_prepared_bytes", lambda target: limit
    )
    found = compare(networks, [LARGE])
    assert [names for _, names in lab.runs] == [["b", "a", "c"], ["b", "d"]]
    lab.runs.clear()
    monkeypatch.setattr(
        "genets.analysis.comparison.compare.max_prepared_bytes", lambda target: limit - 1
    )
    compare(networks, [LARGE])
    assert [names for _, names in lab.runs] == [["b", "a"], ["b", "c"], ["b", "d"]]
    assert found.networks == tuple("abcd")
    note = run_note(found, LARGE)
    assert "2 runs" in note
    assert "b, the reference in 2 of them, took 1.25 to 1.25 ms" in note
    lab.runs.clear()
    limit_memory(monkeypatch, 0)
    chosen = compare(networks, [LARGE], reference="d")
    assert [names for _, names in lab.runs] == [["d", "a"], ["d", "b"], ["d", "c"]]
    assert references(chosen) == ["d"] * 4


def test_in_chunks_keeps_every_key_once():
    sizes = {"r": 1, "a": 5, "b": 5, "huge": 100, "c": 1}
    chunks = list(in_chunks(sizes, 11, "r"))
    assert all(chunk[0] == "r" for chunk in chunks)
    assert [key for chunk in chunks for key in chunk[1:]] == ["a", "b", "huge", "c"]
    assert chunks[0] == ["r", "a", "b"]
    assert list(in_chunks({"r": 9}, 1, "r")) == [["r"]]


def test_rows_are_kept_when_stopped_and_used_again(lab, tmp_path):
    lab.ms = {"a": 1.0, "b": 2.0, "c": 3.0}
    file, networks = tmp_path / "rows.json", [candidate("a"), candidate("b")]
    lab.stop_at = 1
    with pytest.raises(KeyboardInterrupt):
        compare(networks, [SMALL, LARGE], file=file)
    assert len(json.loads(file.read_text())["rows"]) == 2
    lab.stop_at = 10
    first = compare(networks, [SMALL, LARGE], file=file)
    assert [target for target, _ in lab.runs] == [SMALL, LARGE]
    more = compare([*networks, candidate("c", 64)], [SMALL], file=file)
    assert lab.runs[-1] == (SMALL, ["a", "c"])  # the reference beside the one that is missing
    assert more.rows[:2] == first.on(SMALL)
    assert "a, the reference in 2 of them" in run_note(more, SMALL)


@pytest.mark.parametrize("failures", [1, 2])
def test_a_full_disk_stops_no_measurement(lab, tmp_path, monkeypatch, failures):
    """A later save writes all rows, so only a failure of the last one is reported."""
    lab.ms = {"a": 1.0}
    file, tried, unsaved, replace = tmp_path / "rows.json", [], [], os.replace

    def full(source, target):
        tried.append(target)
        if len(tried) <= failures:
            raise OSError(errno.ENOSPC, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", full)
    with pytest.warns(UserWarning, match="cannot be written") as caught:
        found = compare(
            [candidate("a")],
            [SMALL, LARGE],
            file=file,
            on_unsaved=lambda path, error: unsaved.append((path, error.strerror)),
        )
    assert len(caught) == 1
    assert all(row.measurement for row in found.rows)
    assert unsaved == ([(file, "No space left on device")] if failures == 2 else [])
    assert len(load_rows(file).rows) == (0 if failures == 2 else 2)


def test_failed_rows_are_tried_again(lab, tmp_path):
    lab.ms, lab.failing = {"a": 1.0}, {"a": "the extra is missing"}
    file = tmp_path / "rows.json"
    assert compare([candidate("a")], [SMALL], file=file).rows[0].error
    lab.failing = {}
    assert compare([candidate("a")], [SMALL], file=file).rows[0].ms_per_image == 2.0


def test_rows_from_other_conditions_are_refused(lab, tmp_path, monkeypatch):
    lab.ms, file = {"a": 1.0}, tmp_path / "rows.json"
    compare([candidate("a")], [SMALL], file=file)
    with pytest.raises(GenetsError, match="protocol: genets-1 in the file, paper here"):
        compare([candidate("a")], [SMALL], file=file, timing=Timing("paper"))
    with pytest.raises(GenetsError, match=r"time limit: 10\.0 in the file, 2\.0 here"):
        compare([candidate("a")], [SMALL], file=file, timing=Timing(time_limit_s=2.0))
    with pytest.raises(GenetsError, match="seed: 0 in the file, 7 here"):
        compare([candidate("a", seed=7)], [SMALL], file=file)
    other = {"device_name": "another", "threads": 1, "packages": {}}
    monkeypatch.setattr("genets.analysis.comparison.rows.describe_environment", lambda t: other)
    with pytest.raises(GenetsError, match="device: a device in the file, another here"):
        compare([candidate("a")], [SMALL], file=file)
    compare([candidate("a")], [LARGE], file=file)  # nothing there to use again


def test_rows_of_another_network_of_the_same_name_are_refused(lab, tmp_path):
    lab.ms, file = {"mine": 1.0}, tmp_path / "rows.json"
    compare([candidate("mine")], [SMALL], file=file)
    with pytest.raises(GenetsError, match="holds mine as a network of 224 parameters"):
        compare([candidate("mine", 16)], [SMALL], file=file)


def test_one_process_at_a_time_writes_the_rows(lab, tmp_path):
    lab.ms, file = {"a": 1.0}, tmp_path / "rows.json"
    with lock_rows(file), pytest.raises(GenetsError, match="in use by process"):
        compare([candidate("a")], [SMALL], file=file)
    assert compare([candidate("a")], [SMALL], file=file).rows[0].measurement


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "is damaged"),
        ("{", "is damaged"),
        ("[]", "is damaged"),
        ('{"version": 2, "references": [], "rows": 3}', "is damaged"),
        ('{"version": 99}', "has format version 99"),
        ('{"version": 1, "rows": 3}', "has format version 1"),
    ],
)
def test_a_damaged_file_is_refused(lab, tmp_path, text, fault):
    file = tmp_path / "rows.json"
    file.write_text(text)
    with pytest.raises(GenetsError, match=rf"rows\.json {fault}"):
        compare([candidate("a")], [SMALL], file=file)


def test_targets_that_are_not_here(lab, monkeypatch):
    lab.ms = {"a": 1.0}

    def check(target):
        if target.batch_size == 4:
            raise TargetError("no such device here")

    monkeypatch.setattr(Target, "check", check)
    found = compare([candidate("a")], [SMALL, LARGE])
    assert [row.error for row in found.rows] == [None, "no such device here"]
    with pytest.raises(TargetError, match="no such device here"):
        compare([candidate("a")], [LARGE])


def test_progress_comes_to_the_total(lab):
    lab.ms, told = {"a": 1.0, "b": 2.0}, []
    compare([candidate("a"), candidate("b")], [SMALL, LARGE], on_progress=told.append)
    done = [p.done for p in told]
    assert done == sorted(done)
    assert (done[0], done[-1], told[0].total) == (0, 4, 4)


def test_candidates_of_the_paper():
    found = find_networks(["genet_light", "master_small"], "genets")
    assert [c.name for c in found] == [
        "GENet-light", "GENet-normal", "GENet-large", "genet_light", "master_small",
    ]  # fmt: skip
    light, named = found[0], found[3]
    assert light.published_ms["table7"][64] == named.published_ms["table7"][64] == 0.09
    assert (light.top1_percent, named.top1_percent, found[4].top1_percent) == (75.7, 75.7, None)
    assert len(find_networks([], "paper34")) == 34
    assert [c.name for c in find_networks(["efficientnet-b0"], resolution=64)] == [
        baselines["EfficientNet-B0"].name
    ]


@pytest.mark.parametrize(
    "name", ["MobileNetV2-1.0", "genet_light", "GENet-light", "timm:mobilenetv2_100"]
)
def test_what_was_published_holds_for_the_own_resolution_alone(name):
    own, smaller = (find_networks([name], resolution=pixels)[0] for pixels in (None, 64))
    assert own.top1_percent is not None
    assert own.published_ms["table7"]
    assert (smaller.top1_percent, smaller.published_ms) == (None, {})
    (same,) = find_networks([name], resolution=own.resolution)
    assert same.top1_percent == own.top1_percent


def test_a_network_of_table_7_has_its_published_figures_under_the_name_of_timm():
    found, known = find_networks(["timm:resnet34"])[0], baselines["ResNet-34"]
    assert (found.name, found.family) == ("timm:resnet34", known.family)
    assert (found.top1_percent, found.published_ms) == (known.top1_percent, known.ms_per_image)
    assert find_networks(["timm:resnet34.a1_in1k"])[0].top1_percent is None  # other weights


def test_candidates_are_the_same_every_time_and_have_no_zero_layers():
    (one,) = find_networks(["timm:resnet18"])
    first, second = one.network(), one.network()
    assert all((a == b).all() for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert all(m.weight.any() for m in first.modules() if isinstance(m, nn.BatchNorm2d))


@pytest.mark.parametrize(
    ("names", "set_name", "resolution", "message"),
    [
        ([], None, None, "name the networks to compare, or a set: paper34"),
        (["genet_lite"], None, None, "did you mean genet_light"),
        ([], "paper43", None, "unknown set of networks 'paper43'; did you mean paper34"),
        (["genet_light"], None, 0, "resolution must be an integer above 0, not 0"),
    ],
)
def test_candidate_faults(names, set_name, resolution, message):
    with pytest.raises(GenetsError, match=message):
        find_networks(names, set_name, resolution)


def test_a_row_must_be_one_or_the_other(lab):
    lab.ms = {"a": 1.0}
    (row,) = compare([candidate("a")], [SMALL]).rows
    with pytest.raises(AssertionError):
        replace(row, error="and a reason")


def test_a_device_of_which_nothing_was_measured_is_not_asked(lab, tmp_path, monkeypatch):
    """Such as the GPU of another machine: its rows have their reason alone."""
    lab.failing, file = {"a": "this machine has no CUDA device"}, tmp_path / "rows.json"
    compare([candidate("a")], [SMALL], file=file)

    def refuse(target: Target) -> None:
        raise AssertionError("Torch not compiled with CUDA enabled")

    monkeypatch.setattr("genets.analysis.comparison.rows.describe_environment", refuse)
    (row,) = compare([candidate("a")], [SMALL], file=file).rows
    assert row.error == "this machine has no CUDA device"
