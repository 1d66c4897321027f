"""Named recipes, and changes to them."""

import math
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from timm.loss import SoftTargetCrossEntropy

from genets.core.errors import GenetsError, SettingsError
from genets.nas.settings.presets import PRESETS
from genets.nas.settings.training import SEARCH_FIELDS
from genets.training import Recipe, RunRecipe, make_loss, make_recipe, named_recipe
from genets.training.recipe import (
    FIELDS,
    FIXED_POLICIES,
    MAX_LENGTHENED,
    apply_changes,
    describe_fields,
    full_recipe,
    lengthened,
    parse_changes,
    read_recipe_file,
    recipes,
    with_all_fields,
)


def test_every_named_recipe_is_valid():
    assert set(recipes()) == {"paper", "nas", "finetune", "quick"}
    for name in recipes():
        assert make_recipe(named_recipe(name)).epochs == named_recipe(name)["epochs"]


def test_paper_recipe_is_section_5():
    recipe = make_recipe(named_recipe("paper"))
    stated = {
        "epochs": 480,
        "batch_size": 256,
        "learning_rate": 0.1,
        "momentum": 0.9,
        "weight_decay": 4e-5,
        "warmup_epochs": 5,
        "soft_label_weight": 0.5,
        "auto_augment": "original",
    }
    assert {name: getattr(recipe, name) for name in stated} == stated
    assert min(recipe.mixup, recipe.erase, recipe.label_smoothing) > 0
    assert recipe.peak_rate == pytest.approx(0.1)


def test_presets_of_the_search_follow_the_recipes():
    """A preset has every field of a recipe that a search has, but the precision."""
    paper, nas, finetune = (
        {field: full_recipe(name)[field] for field in SEARCH_FIELDS if field != "precision"}
        for name in ("paper", "nas", "finetune")
    )
    preset = PRESETS["paper"]
    assert preset["master_training"] == paper | {"epochs": 120}
    assert preset["trial_training"] == nas
    assert preset["final_training"] == paper
    literal = PRESETS["paper-literal"]
    assert literal["trial_training"] == nas | {"thaw": "block"}
    assert literal["final_training"] == PRESETS["imagenet"]["final_training"] == paper
    photos = PRESETS["photos"]
    assert photos["master_training"] | {"epochs": 20} == finetune
    assert photos["final_training"] | {"epochs": 20} == finetune | {"linear_start": False}


def test_every_field_has_a_description_and_a_default():
    texts = describe_fields()
    assert tuple(texts) == FIELDS
    assert all(text.endswith(".") for text in texts.values())
    assert texts["epochs"] == "Passes over the training split."
    assert texts["erase"] == "The probability of random erasing."
    recipe = asdict(RunRecipe(**full_recipe("nas")))
    assert recipe == asdict(make_recipe(named_recipe("nas")))
    assert asdict(with_all_fields(Recipe(epochs=2))) == asdict(
        RunRecipe(epochs=2, precision="fp32")
    )


def test_the_fixed_policies_are_timms():
    for name in FIXED_POLICIES:
        assert RunRecipe(epochs=1, auto_augment=name).augmentation().training_transform(32)


def test_changes_of_every_type():
    changes = parse_changes(
        ["epochs=3", "crop_area = [0.5, 1]", "auto_augment=rand-m9-mstd0.5", "compile=true",
         "mixup=0.2"]
    )  # fmt: skip
    recipe = make_recipe(named_recipe("quick") | changes)
    assert (recipe.epochs, recipe.crop_area, recipe.compile) == (3, (0.5, 1.0), True)
    assert (recipe.auto_augment, recipe.mixup) == ("rand-m9-mstd0.5", 0.2)
    assert make_recipe(asdict(recipe)) == recipe


def test_file(tmp_path):
    (tmp_path / "r.toml").write_text("epochs = 7\nerase = 0.5\n")
    assert read_recipe_file(tmp_path / "r.toml") == {"epochs": 7, "erase": 0.5}
    (tmp_path / "bad.toml").write_text("epochs = ")
    with pytest.raises(SettingsError, match=r"bad\.toml is not valid TOML"):
        read_recipe_file(tmp_path / "bad.toml")
    with pytest.raises(SettingsError, match=r"cannot read recipe .*gone\.toml"):
        read_recipe_file(tmp_path / "gone.toml")


@pytest.mark.parametrize("value", ["[" * 5000 + "]" * 5000, "9" * 5000, "[1"])
def test_a_file_that_is_no_toml_is_one_sentence(tmp_path, value):
    path = tmp_path / "mine.toml"
    path.write_text(f"epochs = {value}\n")
    with pytest.raises(SettingsError, match="is not valid TOML"):
        read_recipe_file(path)
    assert parse_changes([f"epochs={value}"]) == {"epochs": value}


def test_every_field_can_be_set_to_its_own_value():
    for name, value in asdict(RunRecipe(epochs=2)).items():
        text = str(value).lower() if isinstance(value, bool) else str(value)
        text = str(list(value)) if isinstance(value, tuple) else text
        assert make_recipe({"epochs": 2} | parse_changes([f"{name}={text}"])).epochs == 2
    assert len(FIELDS) == 25


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epochs", "a change must have the form NAME=VALUE, not 'epochs'"),
        ("epoch=3", "unknown recipe field 'epoch'; did you mean epochs"),
        (f"epochs={'9' * 400}", "epochs must be less than or equal to 1000000000, not 9999"),
        (f"learning_rate={'9' * 400}", "learning_rate must be a finite number or 'auto'"),
        (
            f"learning_rate={'9' * 5000}",
            "learning_rate must be a valid number or 'auto', not '9999",
        ),
        ("decay_norm_and_bias=no", "decay_norm_and_bias must be a valid boolean, not 'no'"),
        ("colour_jitter=1e300", r"colour_jitter must be less than or equal to 10, not 1e\+300"),
        ("epochs=many", "epochs must be a valid integer, not 'many'"),
        ("learning_rate=nan", "learning_rate must be a finite number or 'auto', not nan"),
        ("learning_rate=0", "learning_rate must be greater than 0 or 'auto', not 0"),
        ("learning_rate=atuo", "learning_rate must be a valid number or 'auto', not 'atuo'"),
        ("mixup=-1", "mixup must be greater than or equal to 0, not -1"),
        ("erase=2", "erase must be less than or equal to 1, not 2"),
        ("flip=true", "flip must be a valid number, not True"),
        ("ema_decay=1", "ema_decay must be less than 1, not 1"),
        ("compile=1", "compile must be a valid boolean, not 1"),
        ("crop_area=[1, 0.5]", r"crop_area must be ascending, not \(1.0, 0.5\)"),
        ("crop_area=0.5", "crop_area must be a valid array, not 0.5"),
        (
            "auto_augment=autoaugment",
            "auto_augment must be a policy of timm .* or empty, not 'auto",
        ),
        (
            "auto_augment=rand-zz9",
            "auto_augment must be a policy of timm .* or empty, not 'rand-zz9'",
        ),
        ("auto_augment=3", "auto_augment must be a valid string, not 3"),
    ],
)
def test_bad_changes(text, message):
    with pytest.raises(GenetsError, match=message):
        make_recipe({"epochs": 4} | parse_changes([text]))


def test_mixing_pairs_needs_an_even_batch():
    with pytest.raises(GenetsError, match="batch_size must be even for mixup and cutmix"):
        RunRecipe(epochs=1, batch_size=33, mixup=0.1)


def test_unknown_recipe():
    with pytest.raises(SettingsError, match=r"unknown recipe 'papr'; did you mean paper\?"):
        named_recipe("papr")


def test_mixed_and_smoothed_labels_are_timms():
    """Smoothing in the loss equals timm's smoothing in its mix-up."""
    from timm.data.mixup import Mixup

    logits = torch.randn(8, 5, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 1, 2, 3, 4, 0, 1, 2])
    recipe = RunRecipe(epochs=1, mixup=0.4, label_smoothing=0.2)
    state = np.random.get_state()
    try:
        np.random.seed(1)
        ours = recipe.mixing(5)(torch.zeros(8, 3, 2, 2), labels)[1]
        np.random.seed(1)
        theirs = Mixup(0.4, label_smoothing=0.2, num_classes=5)(torch.zeros(8, 3, 2, 2), labels)[1]
    finally:
        np.random.set_state(state)
    assert not torch.equal(ours, F.one_hot(labels, 5).float())
    expected = SoftTargetCrossEntropy()(logits, theirs).item()
    assert make_loss(logits, ours, recipe).item() == pytest.approx(expected, rel=1e-6)
    assert math.isfinite(expected)


@pytest.mark.parametrize(
    ("least", "images", "epochs"),
    [
        (0, 160, 20),
        (500, 160, 100),
        (500, 161, 100),
        (500, 31, 200),
        (500, 800, 20),
        (101, 160, 21),
    ],
)
def test_few_images_lengthen_a_recipe(least, images, epochs):
    given = RunRecipe(epochs=20, batch_size=32, warmup_epochs=1.0, least_steps=least)
    longer = lengthened(given, images)
    assert longer == replace(given, epochs=epochs, warmup_epochs=epochs / 20)
    assert lengthened(longer, images) == longer


def test_no_recipe_is_shortened():
    recipe = RunRecipe(epochs=MAX_LENGTHENED + 1, least_steps=10**9)
    assert lengthened(recipe, 1) == recipe


def test_given_epochs_are_not_lengthened():
    base = named_recipe("finetune")
    changed = make_recipe(apply_changes(base, {"epochs": 3}))
    assert (changed.epochs, changed.least_steps) == (3, 0)
    changed = make_recipe(apply_changes(base, {"epochs": 3, "least_steps": 40}))
    assert (changed.epochs, changed.least_steps) == (3, 40)
    assert make_recipe(apply_changes(base, {"ema_decay": 0.5})).least_steps == base["least_steps"]


def test_the_warm_up_scales_with_the_epochs():
    paper = named_recipe("paper")
    assert apply_changes(paper, {"epochs": 48})["warmup_epochs"] == pytest.approx(0.5)
    assert apply_changes(paper, {"epochs": 48, "warmup_epochs": 3})["warmup_epochs"] == 3
    assert apply_changes(paper, {"mixup": 0.1})["warmup_epochs"] == 5
    for name in recipes():
        recipe = make_recipe(apply_changes(named_recipe(name), {"epochs": 1}))
        assert recipe.epochs == 1 > recipe.warmup_epochs, name
    with pytest.raises(GenetsError, match="epochs must be a valid integer, not 'many'"):
        make_recipe(apply_changes(paper, {"epochs": "many"}))
