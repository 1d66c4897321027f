"""`genets eval` of a network of timm, compared with timm's own validation of one image."""

import csv
import json

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from timm.data import create_transform, resolve_model_data_config

from command_line import invoke

NAMES = ("cat", "cow", "dog")


@pytest.fixture
def photos(tmp_path):
    """Three images for each class, of several sizes, with shapes larger than a pixel."""
    random = np.random.default_rng(0)
    for name in NAMES:
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number, size in enumerate(((230, 170), (171, 240), (300, 300))):
            cells = random.integers(0, 256, (9, 9, 3), dtype=np.uint8)
            image = Image.fromarray(cells).resize(size, Image.Resampling.BICUBIC)
            image.save(tmp_path / "photos" / name / f"{number}.png")
    return tmp_path / "photos"


# A bilinear filter and mean 0.5; and a larger test resolution without a crop.
@pytest.mark.parametrize("name", ["test_resnet", "test_mambaout"])
def test_images_are_prepared_as_timm_prepares_them(tmp_path, photos, name) -> None:
    torch.manual_seed(0)
    net = timm.create_model(name, num_classes=len(NAMES)).eval()
    weights, table = tmp_path / "w.safetensors", tmp_path / "predictions.csv"
    save_file(net.state_dict(), weights)
    words = ("--weights", weights, "--data", photos, "--split", "all", "--batch-size", 4)
    result = invoke(
        "eval", f"timm:{name}", *words, "--threads", 1, "--predictions", table, "--json"
    )
    assert result.exit_code == 0, result.output
    config = resolve_model_data_config(net, use_test_size=True)
    transform = create_transform(**config)
    printed = json.loads(result.stdout)
    assert printed["resolution"] == config["input_size"][-1]
    assert printed["preprocessing"]["resize"]["interpolation"] == config["interpolation"]
    with open(table, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 9
    for row in rows:
        with Image.open(row["file"]) as image, torch.inference_mode():
            shares = net(transform(image.convert("RGB"))[None]).softmax(1)[0]
        assert row["predicted_class"] == NAMES[int(shares.argmax())]
        assert float(row["probability"]) == pytest.approx(float(shares.max()), abs=1e-5)
