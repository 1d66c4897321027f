"""What is known about the training of weights, and timm's configuration made from it."""

import json

import pytest
import timm
from timm.data import resolve_model_data_config
from torch import nn

from genets.core.errors import GenetsError
from genets.core.image_facts import ImageOrigin, Preprocessing
from genets.networks import build, load, resolve_network, save_weights
from genets.networks.weights_facts import WeightsFacts, published_facts, read_facts
from genets.structure import zoo

PREPROCESSING = Preprocessing(
    mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6), interpolation="lanczos", crop_pct=0.9
)
ORIGIN = ImageOrigin(data="photos", seed=7, fingerprint="abc")
METADATA = {
    "num_classes": "2",
    "class_names": json.dumps(["cat", "dog"]),
    "preprocessing": json.dumps(PREPROCESSING.to_json()),
    "images": json.dumps(ORIGIN.to_json()),
}


def check_configuration(net: nn.Module, resolution: int) -> None:
    for use_test_size in (False, True):
        assert resolve_model_data_config(net, use_test_size=use_test_size) == {
            "input_size": (3, resolution, resolution),
            "mean": (0.1, 0.2, 0.3),
            "std": (0.4, 0.5, 0.6),
            "interpolation": "lanczos",
            "crop_pct": 0.9,
            "crop_mode": "center",
        }
    assert net.pretrained_cfg["num_classes"] == 2
    assert net.pretrained_cfg["label_names"] == ("cat", "dog")
    published = {"url", "hf_hub_id", "tag", "source", "test_input_size", "license", "paper_ids"}
    assert published.isdisjoint(net.pretrained_cfg)


def test_a_loaded_structure_has_the_configuration_of_its_training(tmp_path) -> None:
    zoo["master_small"].save(tmp_path / "structure.toml")
    save_weights(build(zoo["master_small"], 2), tmp_path / "weights.safetensors", METADATA)
    net = load(tmp_path)
    check_configuration(net, zoo["master_small"].resolution)
    net.reset_classifier(5)  # reads the name of the classifier from the configuration
    assert net.num_classes == 5


def test_a_fine_tuned_network_of_timm_has_the_configuration_of_its_training(tmp_path) -> None:
    net = timm.create_model("test_resnet", num_classes=2)
    metadata = METADATA | {"network": "timm:test_resnet", "resolution": "64"}
    save_weights(net, tmp_path / "weights.safetensors", metadata)
    check_configuration(load(tmp_path), 64)


@pytest.mark.parametrize("name", ["test_resnet", "test_mambaout", "resnet10t", "volo_d4_448"])
def test_published_weights_are_scored_as_timm_validates_them(name) -> None:
    config = timm.get_pretrained_cfg(name)
    net = nn.Identity()
    net.pretrained_cfg = config.to_dict()
    facts = published_facts(net)
    expected = resolve_model_data_config(net, use_test_size=True)
    assert facts.scored_at == expected.pop("input_size")[-1]
    assert facts.preprocessing == Preprocessing(**expected)


def test_facts_of_a_file(tmp_path) -> None:
    path = tmp_path / "w.safetensors"
    save_weights(build(zoo["master_small"], 2), path, METADATA)
    source = resolve_network("master_small", 2, weights=path)
    assert source.facts == WeightsFacts(("cat", "dog"), PREPROCESSING, ORIGIN)
    assert source.resolution == zoo["master_small"].resolution
    save_weights(build(zoo["master_small"], 2), path, METADATA | {"resolution": "40"})
    assert resolve_network("master_small", 2, weights=path).resolution == 40
    assert resolve_network("master_small", 2, weights=path, fit="kernels").resolution != 40
    assert source.normalisation == (PREPROCESSING.mean, PREPROCESSING.std)
    # Weights of one of timm's networks without texts are prepared as timm does it.
    net = timm.create_model("test_resnet", num_classes=2)
    save_weights(net, path, {})
    source = resolve_network("timm:test_resnet", 2, weights=path)
    assert source.facts == published_facts(net)


def test_files_of_an_older_genets() -> None:
    settings = {"data": "/photos", "seed": 3, "network": "genet_light"}
    metadata = {"mean": "[0.1, 0.2, 0.3]", "std": "[0.4, 0.5, 0.6]",
                "training": json.dumps(settings)}  # fmt: skip
    facts = read_facts(metadata, "w")
    assert facts.preprocessing == Preprocessing(mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
    assert facts.origin == ImageOrigin(data="/photos", seed=3)
    assert read_facts({}, "w") == read_facts({"format": "pt", "training": "long"}, "w")
    assert read_facts({}, "w") == WeightsFacts()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ({"class_names": "cat"}, "must state class_names as JSON, not 'cat'"),
        ({"class_names": '["cat", 1]'}, "must state class_names as a list of texts"),
        ({"class_names": '{"cat": 1}'}, "must state class_names as a list of texts"),
        ({"mean": "[" * 9000, "std": "1"}, "must state mean as JSON"),
        ({"mean": "[1, 2]", "std": "[1, 1, 1]"}, "state wrong facts: field mean.2 must be given"),
        ({"mean": "[1, 2, NaN]", "std": "[1, 1, 1]"}, "state wrong facts: mean.2 must be a finite"),
        ({"mean": "[1, 2, 3]", "std": "[1, 1, 0]"}, "std must be above 0 for each colour"),
        ({"preprocessing": "5"}, "state wrong facts: Preprocessing must be an object"),
        ({"images": '{"data": 3}'}, "state wrong facts: data must be"),
        ({"images": '{"data": "a", "seed": -1}'}, "seed must be at least 0, not -1"),
    ],
)
def test_wrong_facts_are_one_sentence(text, sentence) -> None:
    with pytest.raises(GenetsError) as error:
        read_facts(text, "w.safetensors")
    assert str(error.value).startswith("weights 'w.safetensors' ")
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)


def test_names_for_another_number_of_classes(tmp_path) -> None:
    zoo["master_small"].save(tmp_path / "structure.toml")
    metadata = METADATA | {"num_classes": "3"}
    save_weights(build(zoo["master_small"], 3), tmp_path / "weights.safetensors", metadata)
    with pytest.raises(GenetsError, match="state 3 classes and 2 names"):
        load(tmp_path)
