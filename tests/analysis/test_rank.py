"""Rank of networks: the claim, the advice, and weights from files."""

import json
import pickle
import re

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from genets.analysis.rank.advice import advise, load_block_latencies
from genets.analysis.rank.rank import (
    MEASURES,
    NetworkRank,
    StageRank,
    claim_sentence,
    rank,
    rank_of,
)
from genets.analysis.rank.spectrum import Spectrum
from genets.core.errors import GenetsError
from genets.networks import build, resolve_network, save_weights, weights
from genets.report.rank.tables import advice_rows, next_step, rank_tables
from genets.structure import Structure

NOTATION = "Conv3x8s2 XX3x16s2 XX3x32s2 BL3x32r0.5 Conv1x8 @16"
STRUCTURE = Structure.parse(NOTATION)


def stage(number, decay, kind="full", channels=64):
    """A stage whose singular values fall as exp(-decay * index / channels)."""
    values = np.exp(-decay * np.arange(channels) / channels)
    return StageRank(number, f"layer{number}", 2**number, (channels, channels, 3, 3), 1, kind,
                     Spectrum(values, 1.0), 0.82)  # fmt: skip


def network(*stages, weights="pretrained"):
    return NetworkRank("mine", weights, 224, stages)


def profile_in(folder, ms, share=0.01):
    """share: of the latency, from the median to either end of the interval."""
    rows = [
        {"figure": "3", "type": kind, "ratio": ratio, "width": width, "ms_per_image": value,
         "low_ms_per_image": value * (1 - share), "high_ms_per_image": value * (1 + share),
         "noisy": share > 0.01,
         "device": "cpu", "engine": "torch", "precision": "fp32", "batch_size": 1,
         "resolution": 112}
        for (kind, ratio, width), value in ms.items()
    ]  # fmt: skip
    rows.append({"figure": "2a", "ms_per_image": 1.0})
    (folder / "profile.json").write_text(json.dumps({"rows": rows, "findings": {}}))
    return load_block_latencies(folder)


def test_rank_by_stage_and_by_super_block():
    net = build(STRUCTURE, 10)
    found = rank(net, 16)
    assert [(s.stage, s.layer, s.shape[0]) for s in found.stages] == [
        (1, "stages.0.0.conv2_kxk.conv", 16), (2, "stages.2.0.conv2_kxk.conv", 16),
    ]  # fmt: skip
    blocks = rank(net, 16, super_blocks=3)
    assert [(s.kind, s.channels) for s in blocks.stages] == [
        ("full", 16), ("full", 32), ("bottleneck", 16),
    ]  # fmt: skip
    first = found.stages[0]
    assert (first.fan_in, first.reduction) == (144, 4)
    expected = torch.linalg.svdvals(net.stages[0][0].conv2_kxk.conv.weight.detach().flatten(1))
    assert first.spectrum.values == pytest.approx((expected / expected[0]).numpy(), abs=1e-5)


def test_a_layer_without_a_rank_is_named():
    net = build(STRUCTURE, 10)
    torch.nn.init.zeros_(net.stages[0][0].conv2_kxk.conv.weight)
    with pytest.raises(GenetsError, match=r"conv2_kxk\.conv of network has no rank"):
        rank(net, 16)


def test_the_claim_shows_where_all_measures_fall():
    sentence = claim_sentence(network(stage(1, 1.0), stage(2, 3.0), stage(3, 6.0)))
    assert "shows in mine: in stages 1 and 3" in sentence
    for name, measure in MEASURES.items():
        first, last = (measure(stage(0, decay).spectrum) for decay in (1.0, 6.0))
        assert f"{name} {first:.0%} and {last:.0%}" in sentence


def test_the_claim_does_not_show_where_none_falls():
    assert "does not show in mine" in claim_sentence(network(stage(1, 3.0), stage(2, 1.0)))
    assert "does not show in mine" in claim_sentence(network(stage(1, 3.0), stage(2, 3.01)))


def test_a_difference_of_a_channel_is_none():
    narrow, wide = (stage(n, 3.0, channels=c) for n, c in ((1, 8), (2, 64)))
    first, last = (MEASURES["90 % of the energy"](s.spectrum) for s in (narrow, wide))
    assert 0.05 * first < first - last < 1 / 8
    assert "does not show in mine" in claim_sentence(network(narrow, wide))


def test_only_layers_of_one_kind_are_compared():
    mixed = network(stage(1, 1.0), stage(2, 6.0, "bottleneck"), stage(3, 9.0, "depth-wise"))
    assert "has no two stages that end with a full convolution" in claim_sentence(mixed)
    bottlenecks = network(*(stage(n, n, "bottleneck") for n in (1, 2, 3)))
    assert "in stages 1 and 3" in claim_sentence(bottlenecks)
    assert "The paper leaves bottleneck convolutions out" in claim_sentence(bottlenecks)


def test_fresh_weights_say_nothing():
    fresh = network(stage(1, 1.0), stage(2, 6.0), weights="fresh")
    assert "says nothing about the claim of section 3.3" in claim_sentence(fresh)
    assert advise(fresh) == []


def test_advice_is_the_smallest_ratio_that_keeps_the_energy():
    # 90 % of the energy: ln(10) / (2 * decay) of the directions.
    full, half, quarter = advise(network(stage(1, 1.0), stage(2, 3.0), stage(3, 6.0)))
    assert full.best is None
    assert full.sentence == "Stage 1: XX."
    assert max(choice.kept for choice in full.choices) == full.stage.spectrum.kept(0.5) < 0.9
    assert half.best.ratio == 0.5
    assert quarter.best.ratio == 0.25
    assert quarter.stage.spectrum.directions() == 13
    assert quarter.sentence == ("Stage 3: BL3x64r0.25 or DW3x16r4 can keep 95% of the energy.")
    header, rows, advised = advice_rows([full, half, quarter])
    assert header == ("stage", "block", "energy kept, at most", "advised")
    assert [rows[number][:2] for number in sorted(advised)] == [
        ["1", "XX"], ["2", "BL3x64r0.5"], ["2", "DW3x32r2"], ["3", "BL3x64r0.25"],
        ["3", "DW3x16r4"],
    ]  # fmt: skip
    assert [choice.kept for choice in half.choices][::2] == [
        half.stage.spectrum.kept(0.5), half.stage.spectrum.kept(0.25),
    ]  # fmt: skip


def test_advice_on_the_screen_names_the_next_step(tmp_path):
    stages = network(stage(1, 1.0), stage(2, 6.0))
    advice = advise(stages)
    assert next_step("net", advice) == (
        "net: to see whether these blocks are faster on your device: genets profile --out "
        "runs/profile, and then genets rank with --profile runs/profile"
    )
    _, shown = rank_tables([stages], {stages.name: advice})
    assert shown.row_count == len(advice[1].choices), "stage 1 has no advice, so it has no row"
    timed = profile_in(tmp_path, {("XX", 1.0, 64): 1.0, ("BL", 0.25, 64): 0.5,
                                  ("DW", 0.25, 64): 0.4})  # fmt: skip
    assert "genets search --data DATA --budget BUDGET --blocks XX3,DW3r4 --out" in next_step(
        "net", advise(stages, timed)
    )


def test_without_advice_nothing_is_said(tmp_path):
    stages = network(stage(1, 1.0))
    advice = advise(stages)
    assert next_step("net", advice) is None
    assert len(rank_tables([stages], {stages.name: advice})) == 1


def test_no_advice_for_layers_that_are_no_full_convolutions():
    kinds = ("bottleneck", "grouped", "depth-wise")
    assert advise(network(*(stage(n, 6.0, kind) for n, kind in enumerate(kinds)))) == []


def test_advice_counts_the_latency_of_the_nearest_width(tmp_path):
    latencies = profile_in(tmp_path, {
        ("XX", 1.0, 32): 1.0, ("XX", 1.0, 256): 10.0, ("XX", 1.0, 80): 2.0,
        ("BL", 1.0, 80): 3.0, ("BL", 0.5, 80): 1.5, ("BL", 0.25, 80): 0.8,
        ("DW", 0.5, 80): 1.0, ("DW", 0.25, 80): 0.5,
    })  # fmt: skip
    half, quarter = advise(network(stage(1, 3.0), stage(2, 6.0)), latencies)
    assert (half.width, latencies.target, latencies.resolution) == (
        80, "cpu, torch, fp32, batch 1", 112,
    )  # fmt: skip
    assert (half.best.type, half.best.ratio, half.best.times_latency) == ("DW", 0.5, 0.5)
    assert (quarter.best.type, quarter.best.ratio) == ("DW", 0.25)
    assert quarter.best.times_latency == pytest.approx(0.25)
    assert quarter.sentence == "Stage 2: DW3x16r4 can keep 95% of the energy."
    _, rows, advised = advice_rows([half, quarter])
    (number,) = (n for n in advised if rows[n][0] == "2")
    # Intervals reach 1 % to both sides.
    assert rows[number] == [
        "2", "DW3x16r4", "95.0%", "yes", "80", "0.25", "0.25 to 0.26", "faster",
    ]  # fmt: skip
    assert ["2", "XX"] not in [row[:2] for row in rows]
    assert quarter.to_json()["block"] == "DW3x16r4"


def test_a_block_that_is_no_faster_is_not_advised(tmp_path):
    latencies = profile_in(tmp_path, {("XX", 1.0, 64): 1.0, ("BL", 0.5, 64): 1.2})
    (advice,) = advise(network(stage(1, 3.0)), latencies)
    assert advice.best is None
    assert advice.sentence == "Stage 1: XX."
    _, rows, advised = advice_rows([advice])
    assert [row[1] for row in rows] == ["XX", "BL3x64r0.5"]
    assert (rows[1][-1], advised) == ("slower", {0})


def test_what_is_faster_within_its_interval_is_not_advised(tmp_path):
    ms = {("XX", 1.0, 64): 1.0, ("BL", 0.5, 64): 0.9}
    (sure,) = advise(network(stage(1, 3.0)), profile_in(tmp_path, ms))
    (unsure,) = advise(network(stage(1, 3.0)), profile_in(tmp_path, ms, share=0.1))
    assert (sure.best.type, sure.best.noisy) == ("BL", False)
    assert unsure.best is None
    (choice,) = unsure.choices
    assert (choice.times_latency, choice.faster, choice.noisy) == (pytest.approx(0.9), False, True)
    assert choice.speed.verdict == "unclear"
    assert advice_rows([unsure])[1][1][-1] == "unclear"


def test_a_profile_without_other_blocks_gives_no_advice(tmp_path):
    (advice,) = advise(network(stage(1, 3.0)), profile_in(tmp_path, {("XX", 1.0, 32): 1.0}))
    assert advice.best is None
    _, rows, advised = advice_rows([advice])
    assert (rows[0][:2], advised) == (["1", "none timed at this width"], frozenset())


def test_bad_profiles_are_refused(tmp_path):
    with pytest.raises(GenetsError, match=r"no profile in .*; make one with `genets profile --out"):
        load_block_latencies(tmp_path / "none")
    for text in ("{", "[]", '{"rows": [{"figure": "3", "ms_per_image": 1}]}'):
        (tmp_path / "profile.json").write_text(text)
        with pytest.raises(GenetsError, match=r"profile\.json is damaged .*; make the prof"):
            load_block_latencies(tmp_path)
    with pytest.raises(GenetsError, match="has no latency of an XX block"):
        profile_in(tmp_path, {("BL", 0.5, 64): 1.2})


def test_fresh_weights_are_seeded():
    state = torch.get_rng_state()
    one, same, other = (resolve_network(NOTATION, seed=seed) for seed in (1, 1, 2))
    weights = [w.network.stages[0][0].conv2_kxk.conv.weight for w in (one, same, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert torch.equal(torch.get_rng_state(), state)
    assert not one.is_trained
    with pytest.raises(GenetsError, match="resnet18 has no super-blocks"):
        rank_of(resolve_network("timm:resnet18"), super_blocks=True)


def test_a_results_folder_has_weights_of_its_own(tmp_path):
    net = build(STRUCTURE, 3)
    STRUCTURE.save(tmp_path / "structure.toml")
    save_weights(net, tmp_path / "weights.safetensors", {"num_classes": "3"})
    found = rank_of(resolve_network(str(tmp_path), pretrained=True))
    assert (found.trained, found.weights) == (True, "results folder")
    expected = rank(net, 16).stages[0].spectrum.values
    assert found.stages[0].spectrum.values == pytest.approx(expected)
    with pytest.raises(GenetsError, match="is a results folder, which has its own weights"):
        resolve_network(str(tmp_path), weights=tmp_path / "weights.safetensors", fit="kernels")


@pytest.mark.parametrize(
    "form", ["weights.safetensors", "plain.pth", "wrapped.pth", "run.safetensors"]
)
def test_checkpoints(form, tmp_path):
    trained = build(STRUCTURE, 7)  # of other classes
    state, path = trained.state_dict(), tmp_path / form
    if form == "run.safetensors":  # as `genets train` writes them
        average = {f"average.{name}": tensor for name, tensor in state.items()}
        save_file(average | {f"network.{n}": torch.zeros_like(t) for n, t in state.items()}, path)
    elif form == "weights.safetensors":
        save_file(state, path)
    else:
        torch.save({"state_dict": state, "epoch": 3} if form == "wrapped.pth" else state, path)
    found = rank_of(resolve_network(NOTATION, weights=path, fit="kernels"))
    expected = rank(trained, 16)
    assert found.weights == "checkpoint"
    assert str(path) in found.name
    for one, other in zip(found.stages, expected.stages, strict=True):
        assert one.spectrum.values == pytest.approx(other.spectrum.values)


def test_bad_checkpoints_are_refused(tmp_path):
    net, path = build(STRUCTURE, 10), tmp_path / "a.pth"

    def load_kernels(net, path):
        weights.load_kernels(net, weights.tensors_for(net, path), path)

    with pytest.raises(GenetsError, match=f"no weights file {re.escape(repr(str(path)))}"):
        load_kernels(net, path)
    path.write_bytes(b"no weights")
    with pytest.raises(GenetsError, match="expected a file that contains only tensors"):
        load_kernels(net, path)
    path.write_bytes(pickle.dumps({"weight": re.compile("x")}))
    with pytest.raises(GenetsError, match="expected a file that contains only tensors"):
        load_kernels(net, path)
    (tmp_path / "a.safetensors").write_bytes(b"short")
    with pytest.raises(GenetsError, match="truncated or not a safetensors file"):
        load_kernels(net, tmp_path / "a.safetensors")
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    torch.save({"conv1.weight": torch.zeros(1)}, path)
    with pytest.raises(GenetsError, match=r"it lacks stem.conv.weight, .*; it has conv1.weight"):
        load_kernels(net, path)
    torch.save(build(STRUCTURE.scale_width(2), 10).state_dict(), path)
    with pytest.raises(GenetsError, match=r"stem.conv.weight has shape \(16, 3, 3, 3\)"):
        load_kernels(net, path)
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())
