"""Every text that a command takes as a network."""

import pytest
import timm

from genets.core.errors import GenetsError, StructureError
from genets.networks import build, resolve_network, save_weights
from genets.structure import Structure, zoo
from genets.training import RunSettings, make_recipe, named_recipe

NOTATION = "Conv3x8s2 XX3x16s2 BL3x32s2r0.25*2 DW3x32r3 Conv1x64 @32"


def test_zoo_name() -> None:
    source = resolve_network(" master_small ", 10)
    assert (source.name, source.resolution) == ("master_small", 16)
    assert source.structure == zoo["master_small"]
    assert source.network.num_classes == 10


def test_timm_name() -> None:
    source = resolve_network("timm:resnet10t", 10)
    assert (source.name, source.structure) == ("timm:resnet10t", None)
    assert source.resolution == timm.get_pretrained_cfg("resnet10t").input_size[-1]
    assert source.network.num_classes == 10


@pytest.mark.parametrize("typed", ["OFANet-9ms", "ofanet-9MS"])
def test_baseline(typed: str) -> None:
    source = resolve_network(typed, 10)
    assert (source.name, source.structure, source.resolution) == ("OFANet-9ms", None, 188)
    assert source.network.num_classes == 10


def test_a_genet_under_its_paper_name_has_its_structure() -> None:
    source = resolve_network("GENet-light", 10)
    assert (source.name, source.structure) == ("GENet-light", zoo["genet_light"])


def test_notation() -> None:
    source = resolve_network(NOTATION)
    assert (source.name, str(source.structure)) == (NOTATION, NOTATION)
    assert source.resolution == 32
    assert source.network.num_classes == 1000


def test_structure_file(tmp_path) -> None:
    zoo["master_small"].save(tmp_path / "my net.toml")
    source = resolve_network(str(tmp_path / "my net.toml"), 10)
    assert source.name == "my net"
    assert source.structure == zoo["master_small"]


def test_results_folder_brings_its_weights_and_classes(tmp_path, randomise) -> None:
    structure = zoo["master_small"]
    net = randomise(build(structure, 7))
    structure.save(tmp_path / "structure.toml")
    save_weights(net, tmp_path / "weights.safetensors", {"num_classes": "7"})
    source = resolve_network(str(tmp_path))
    assert source.structure == structure
    own = source.network.state_dict()
    assert all(v.equal(own[k]) for k, v in net.state_dict().items())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("genet_larg", r"unknown network 'genet_larg'; did you mean genet_large"),
        ("EficientNet-B3", r"unknown network 'EficientNet-B3'; did you mean EfficientNet-B3"),
        (
            "",
            r"unknown network ''; valid names are .* \(a network is a zoo name, a baseline, timm",
        ),
        ("timm:resnet10d_t", r"unknown timm network 'resnet10d_t'; did you mean .*resnet10t"),
        ("timm:resnet10t.nope", r"timm cannot create 'resnet10t.nope': Invalid pretrained tag"),
        (
            "resnet10t",
            r"unknown network 'resnet10t'; for timm's network of this name, write timm:r",
        ),
        ("runs/mine/results", r"there is no results folder 'runs/mine/results'"),
        ("absent.toml", r"absent.toml"),
    ],
)
def test_unknown_names(text: str, message: str) -> None:
    with pytest.raises(GenetsError, match=message) as error:
        resolve_network(text)
    assert "\n" not in str(error.value)


def test_a_folder_of_another_kind_says_where_to_look(tmp_path) -> None:
    with pytest.raises(GenetsError, match=r"neither structure\.toml nor weights\.safetensors"):
        resolve_network(str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(GenetsError, match=r"training has not ended; files of weights are in '.*"):
        resolve_network(str(tmp_path))
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "weights.safetensors").touch()
    with pytest.raises(GenetsError, match=r"is not a results folder, but '.*results' is one"):
        resolve_network(str(tmp_path))


@pytest.mark.parametrize("inside", ["", "results"])
def test_the_results_of_several_budgets_say_where_to_look(tmp_path, inside) -> None:
    for budget in ("0.5x", "0.9x"):
        folder = tmp_path / "results" / budget
        folder.mkdir(parents=True)
        (folder / "weights.safetensors").touch()
    with pytest.raises(GenetsError, match=r"but '.*/results/0\.5x' and '.*/results/0\.9x' are$"):
        resolve_network(str(tmp_path / inside))


def test_a_bad_notation_is_a_structure_error() -> None:
    with pytest.raises(StructureError):
        resolve_network("Conv3x8s2 ZZ3x16s2 Conv1x64 @32")


def test_an_empty_folder_is_no_network(tmp_path) -> None:
    with pytest.raises(GenetsError, match=r"structure\.toml"):
        resolve_network(str(tmp_path))


@pytest.mark.parametrize("name", ["master_small", "EfficientNet-B3", "efficientnet-b3"])
def test_a_name_is_not_the_folder_of_that_name(tmp_path, monkeypatch, caplog, name) -> None:
    monkeypatch.chdir(tmp_path)
    structure = Structure.parse("Conv3x8s2 XX3x16s2 XX3x16 Conv1x16 @16")
    folder = tmp_path / name
    folder.mkdir()
    structure.save(folder / "structure.toml")
    save_weights(build(structure, 7), folder / "weights.safetensors", {"num_classes": "7"})
    recipe = make_recipe(named_recipe("quick"))
    with caplog.at_level("INFO", "genets.networks"):
        source = resolve_network(name)
    assert not source.is_trained
    assert [record.getMessage() for record in caplog.records] == [
        f"{name} is the network of that name; for the folder of that name, write ./{name}"
    ]
    run = RunSettings(network=name, data="digits", recipe=recipe, teacher=name)
    assert (run.network, run.teacher, run.weights) == (name, name, "")
    assert resolve_network(f"./{name}").structure == structure
    run = RunSettings(network=f"./{name}", data="digits", recipe=recipe, teacher=f"./{name}")
    assert (run.network, run.teacher) == (str(structure), str(folder))
    assert run.weights == str(folder / "weights.safetensors")


def test_a_notation_may_be_longer_than_a_file_name() -> None:
    text = " ".join(["Conv3x8s2", "XX3x16s2", *["XX3x16"] * 40, "Conv1x16", "@16"])
    assert len(text) > 255
    assert str(resolve_network(text).structure) == text
