"""`genets rank` from options to files, with small networks."""

import csv
import json
from importlib import import_module

import pytest
import torch

from command_line import fails, invoke
from genets.networks import build, save_weights
from genets.structure import Structure
from json_keys import check_keys

NETWORKS = ("Conv3x8s2 XX3x16s2 XX3x32s2 Conv1x8 @16", "Conv3x8s2 XX3x8s2 DW3x8s2r2 Conv1x8 @16")


def rank(*words):
    return invoke("rank", *words)


@pytest.fixture
def trained(tmp_path):
    """A results folder whose second stage has rank 4 of 32."""
    structure = Structure.parse(NETWORKS[0])
    net = build(structure, 3)
    weight = net.stages[1][0].conv2_kxk.conv.weight
    generator = torch.Generator().manual_seed(0)
    low = torch.randn(32, 4, generator=generator) @ torch.randn(4, 288, generator=generator)
    weight.data.copy_(low.reshape(weight.shape))
    folder = tmp_path / "mine <b>"
    folder.mkdir()
    structure.save(folder / "structure.toml")
    save_weights(net, folder / "weights.safetensors", {"num_classes": "3"})
    return folder


def test_fresh_networks_and_all_files(plain, tmp_path):
    out = tmp_path / "new [folder]"
    result = rank(*NETWORKS, "--out", out)
    assert result.exit_code == 0, result.output
    assert "stages.1.0.conv2_kxk.conv" in result.stdout
    assert "depth-wise" in result.stdout
    assert result.stdout.count("says nothing about the claim of section 3.3") == 2
    assert str(out / "rank.html") in result.stdout
    html = (out / "rank.html").read_text()
    assert html.count('class="chart"') == 3  # Figure 4 of each, and both by stage
    assert "says nothing about" in html
    assert "Advice" not in html
    for name in ("figure4.png", "rank_by_stage.png"):
        assert (out / name).read_bytes().startswith(b"\x89PNG")
    record = json.loads((out / "rank.json").read_text())
    stages = list(csv.DictReader((out / "rank.csv").read_text().splitlines()))
    values = list(csv.DictReader((out / "singular_values.csv").read_text().splitlines()))
    assert [row["network"] for row in stages] == [name for name in NETWORKS for _ in range(2)]
    first = record["networks"][0]["stages"][0]
    assert float(stages[0]["stable_rank"]) == first["stable_rank"]
    own = [row for row in values if row["network"] == NETWORKS[0] and row["stage"] == "1"]
    assert [float(row["value_over_largest"]) for row in own] == first["values"]
    assert own[0]["index_over_channels"] == "0.0625"
    assert first["values"][0] == 1


def test_trained_weights_bring_claim_and_advice(plain, trained, tmp_path):
    result = rank(trained, "--super-blocks", "--json", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    record = json.loads(result.stdout)
    check_keys("rank", record)
    assert record == json.loads((tmp_path / "out" / "rank.json").read_text())
    (network,) = record["networks"]
    assert "shows in" in network["claim"]
    second = network["stages"][1]
    assert sum(value > 1e-4 for value in second["values"]) == 4
    assert second["kept_at_0.25"] == pytest.approx(1)
    assert network["advice"][1]["block"] == "BL3x32r0.25"
    html = (tmp_path / "out" / "rank.html").read_text()
    assert "mine &lt;b&gt;" in html
    assert '<tr class="strong">' in html
    assert "No profile was given" in html
    text = rank(trained).stdout
    rows = [[cell.strip() for cell in line.split("│")] for line in text.splitlines()]
    assert [row[2] for row in rows if "yes" in row][-2:] == ["BL3x32r0.25", "DW3x8r4"]


def test_checkpoints_and_their_number(tmp_path):
    net = build(Structure.parse(NETWORKS[0]), 3)
    path = tmp_path / "a.pth"
    torch.save(net.state_dict(), path)
    twice = rank(NETWORKS[0], NETWORKS[0], "--checkpoint", path, "--checkpoint", path, "--json")
    assert [one["trained"] for one in json.loads(twice.stdout)["networks"]] == [True, True]
    fails(rank(*NETWORKS, "--checkpoint", path), "2 times, not 1 times")
    fails(rank(NETWORKS[0], "--checkpoint", path, "--pretrained"), "not both")
    fails(rank(NETWORKS[1], "--checkpoint", path), "are not of this network", "it lacks")


def test_wrong_input_is_one_sentence(tmp_path):
    fails(rank("genet_lrge"), "did you mean genet_large")
    fails(rank("timm:vit_tiny_patch16_224"), "no convolution with a kernel above 1")
    fails(rank(NETWORKS[0], "--profile", tmp_path), "no profile in")
    fails(rank("timm:resnet18", "--super-blocks"), "no super-blocks")
    fails(rank(NETWORKS[0], "--pretrained"), "no pretrained weights")


def test_weights_that_cannot_be_fetched(monkeypatch):
    def unreachable(_):
        raise OSError("Name or service not known")

    # By the module itself, because the name `genets.networks.build` is that of a function.
    monkeypatch.setattr(import_module("genets.networks.build"), "reach_hub", unreachable)
    fails(rank("timm:resnet18", "--pretrained"), "pretrained weights", "Name or service")


def test_help():
    text = " ".join(rank("--help").stdout.split())
    assert all(word in text for word in ("--json", "--seed", "genets rank timm:resnet18"))
