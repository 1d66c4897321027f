"""Search settings: one sentence for a wrong value, TOML without loss."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genets.core.errors import DataError, GenetsError, SettingsError, StructureError, TargetError
from genets.core.resumable import flatten
from genets.latency import Target
from genets.nas.new_study import settings_at
from genets.nas.settings.presets import PRESETS
from genets.nas.settings.settings import SearchSettings
from genets.nas.settings.toml_tables import load_settings_file, merge, merge_settings
from genets.nas.settings.training import SEARCH_FIELDS
from genets.nas.study.study import Study
from genets.structure import Block, DesignSpace, zoo
from genets.structure.space import PAPER_BLOCKS
from genets.training import Recipe, RunRecipe, make_recipe, with_all_fields
from genets.training.recipe import apply_changes, full_recipe

GIVEN = {"data": "digits", "budget": "0.2ms"}


def test_defaults_are_complete():
    settings = SearchSettings(**GIVEN)
    assert settings.structure == zoo["master_small"]
    assert settings.resolution == zoo["master_small"].resolution
    assert settings.target == Target().resolved()
    space = settings.space.design_space()
    assert replace(space, blocks=PAPER_BLOCKS) == DesignSpace(resolutions=())
    assert set(space.blocks) < set(PAPER_BLOCKS)


def test_master_is_kept_as_a_notation_from_any_form(tmp_path):
    structure = zoo["genet_light"]
    structure.save(tmp_path / "mine.toml")
    forms = ("genet_light", str(structure), str(tmp_path / "mine.toml"), structure)
    texts = {SearchSettings(**GIVEN, master=form).master for form in forms}
    assert texts == {str(structure)}
    at_96 = SearchSettings(**GIVEN, master="genet_light", resolution=96)
    assert at_96.structure == structure.with_resolution(96)


def test_blocks_from_the_command_line():
    settings = SearchSettings(**GIVEN, space={"blocks": "XX3, BL5r0.25,DW3r6"})
    assert settings.space.design_space().blocks == (
        Block("XX", 3),
        Block("BL", 5, 0.25),
        Block("DW", 3, 6.0),
    )


def test_resolutions_in_any_order_and_form_are_the_same():
    forms = ("12,20, 16", [16, 12, 20], (12, 16, 20))
    found = [SearchSettings(**GIVEN, space={"resolutions": form}) for form in forms]
    assert found[0] == found[1] == found[2]
    around = found[0].space.design_space().around(found[0].structure.with_resolution(24))
    assert around.resolutions == (12, 16, 20, 24)
    assert SearchSettings.from_toml(found[0].to_toml()) == found[0]


def test_a_study_from_before_resolutions_has_the_masternets_alone():
    text = SearchSettings(**GIVEN).to_toml()
    older = "\n".join(line for line in text.splitlines() if not line.startswith("resolutions"))
    assert older != text.rstrip()
    assert SearchSettings.from_toml(older) == SearchSettings(**GIVEN)


@pytest.mark.parametrize("preset", PRESETS)
def test_toml_gives_back_equal_settings(preset):
    settings = SearchSettings(**merge(PRESETS[preset], GIVEN))
    assert SearchSettings.from_toml(settings.to_toml()) == settings


@given(
    data=st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
    seed=st.integers(0, 2**63 - 1),
    rate=st.floats(1e-300, 1e300, exclude_min=True),
    threads=st.none() | st.integers(1, 64),
)
def test_toml_gives_back_any_values(data, seed, rate, threads):
    settings = SearchSettings(
        data=data,
        budget="1e-3ms",
        seed=seed,
        target={"threads": threads},
        final_training={"epochs": 3, "learning_rate": rate},
    )
    assert SearchSettings.from_toml(settings.to_toml()) == settings


@pytest.mark.parametrize(
    ("changes", "kind", "sentence"),
    [
        (
            {"budgte": "1ms"},
            SettingsError,
            "unknown setting 'budgte'; did you mean budget or budgets?",
        ),
        (
            {"trial_training": {"epoch": 1, "epochs": 2}},
            SettingsError,
            "unknown setting 'trial_training.epoch'; did you mean trial_training.epochs",
        ),
        ({"target": {"batchsize": 1}}, TargetError, "'batchsize'; did you mean batch_size?"),
        ({"target": {"device": "cdua"}}, TargetError, "'cdua'; did you mean cuda"),
        ({"target": {"batch_size": 0}}, TargetError, "batch_size must be an integer from 1"),
        ({"budget": "0.2"}, TargetError, "budget '0.2' has no unit"),
        ({"budget": "-1ms"}, TargetError, "budget must be above 0"),
        ({"budget": "nanms"}, TargetError, "budget must be above 0"),
        ({"budget": 0.2}, TargetError, "budget must be a text such as 0.2ms, not 0.2"),
        ({"data": ""}, SettingsError, "data "),
        ({"seed": -1}, SettingsError, "seed must be greater than or equal to 0, not -1"),
        ({"seed": "x"}, SettingsError, "seed must be a valid integer, not 'x'"),
        (
            {"regression": "bays"},
            SettingsError,
            "regression must be 'bayes' or 'paper', not 'bays'",
        ),
        (
            {"final_training": {"epochs": 0}},
            SettingsError,
            "final_training.epochs must be greater than 0, not 0",
        ),
        ({"master": "master_smal"}, StructureError, "did you mean master_small"),
        ({"master": "Conv3x16s2 YY3x8 @32"}, StructureError, "YY"),
        ({"master": 7}, SettingsError, "master must be a name, a file or a notation, not 7"),
        (
            {"master": "timm:resnet50"},
            SettingsError,
            "--rivals timm:resnet50 compares this network",
        ),
        ({"resolution": "big"}, StructureError, "resolution must be an integer"),
        ({"space": {"blocks": "XX3,ZZ3"}}, StructureError, "unknown block type 'ZZ'"),
        ({"space": {"blocks": "XX"}}, StructureError, "a block is written as XX3"),
        ({"space": {"width_step": 12}}, StructureError, "width_step must be a multiple of 8"),
        (
            {"space": {"resolutions": "12,0"}},
            StructureError,
            "resolution must be an integer from 1",
        ),
        (
            {"space": {"resolutions": "12,x"}},
            SettingsError,
            "resolutions.1 must be a valid integer",
        ),
        (
            {"space": {"resolutions": "12.5"}},
            SettingsError,
            "resolutions.0 must be a valid integer",
        ),
        (
            {"space": {"resolutions": "16,12,16"}},
            SettingsError,
            "resolutions must name each input size once, not 16 twice",
        ),
        (
            {"space": {"resolutions": list(range(8, 308))}},
            SettingsError,
            "resolutions must be at most 16 input sizes, "
            "because candidates of each size are trained, not 3",
        ),
        ({"space": 3}, SettingsError, "space must be a valid dictionary"),
        ({"own_blocks": 3}, SettingsError, "own_blocks must be a list of files, not 3"),
        ({"own_blocks": [3]}, SettingsError, "own_blocks must be a list of files, not [3]"),
        ({"target": {"engine": {}}}, TargetError, "unknown engine '{}'"),
    ],
)
def test_wrong_values_are_one_sentence(changes, kind, sentence):
    with pytest.raises(kind) as caught:
        SearchSettings(**(GIVEN | changes))
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, GenetsError)
    assert not isinstance(caught.value, DataError)


def test_what_is_missing_is_named():
    with pytest.raises(SettingsError, match="setting data must be given"):
        SearchSettings(budget="1ms")


@pytest.mark.parametrize("value", ["[" * 5000 + "]" * 5000, "9" * 5000, "[1"])
def test_a_file_that_is_no_toml_is_one_sentence(tmp_path, value):
    path = tmp_path / "mine.toml"
    path.write_text(f"seed = {value}\n")
    with pytest.raises(SettingsError, match=r"settings file .*mine\.toml is not valid TOML"):
        load_settings_file(path)


def test_merge_and_flatten():
    merged = merge({"a": 1, "t": {"x": 1, "y": 2}}, {"t": {"y": 3}}, {"b": 2})
    assert merged == {"a": 1, "t": {"x": 1, "y": 3}, "b": 2}
    assert flatten(merged) == {"a": 1, "t.x": 1, "t.y": 3, "b": 2}


def test_the_old_name_of_the_metric_is_read_and_may_not_contradict_the_new_name() -> None:
    settings = {"data": "digits", "budget": "1x"}
    assert SearchSettings(**settings, response="top1").metric == "top1"
    assert SearchSettings(**settings, response="top1", metric="top1").metric == "top1"
    with pytest.raises(SettingsError, match="give metric or response, its old name, not both"):
        SearchSettings(**settings, response="top1", metric="cross_entropy")


def test_the_trainings_take_every_field_of_a_recipe() -> None:
    fields = {"mixup": 0.2, "erase": 0.25, "auto_augment": "original", "crop_area": [0.5, 1.0],
              "optimizer": "adamw", "ema_decay": 0.9, "norm_statistics": "frozen"}  # fmt: skip
    settings = SearchSettings(**GIVEN, final_training={"epochs": 3, **fields})
    recipe = settings.final_training.recipe()
    assert recipe == RunRecipe(
        3, learning_rate=1.2, warmup_epochs=1, label_smoothing=0, precision="fp32",
        **fields | {"crop_area": (0.5, 1.0)},
    )  # fmt: skip
    assert SearchSettings.from_toml(settings.to_toml()) == settings


def test_the_defaults_of_the_trainings_are_those_of_older_studies() -> None:
    """These values decide the results of stored studies."""
    older = {"batch_size": 64, "label_smoothing": 0.0, "precision": "fp32"}
    settings = SearchSettings(**GIVEN)
    master = Recipe(36, learning_rate=1.2, warmup_epochs=1, **older)
    trial = Recipe(6, learning_rate=0.8, warmup_epochs=0.5, **older)
    assert settings.master_training.recipe() == with_all_fields(master)
    assert settings.trial_training.recipe() == with_all_fields(trial)
    assert settings.final_training.recipe() == with_all_fields(master)
    lines = settings.to_toml().splitlines()
    new = {*SEARCH_FIELDS} - {"epochs", "learning_rate", "warmup_epochs", *older}
    text = "\n".join(line for line in lines if line.partition(" = ")[0] not in new)
    assert len(text.splitlines()) < len(lines)
    assert SearchSettings.from_toml(text) == settings


def test_a_training_starts_from_a_named_recipe() -> None:
    settings = SearchSettings(
        **GIVEN,
        master_training={"recipe": "finetune", "epochs": 6},
        trial_training={"recipe": "finetune", "thaw": "block"},
    )
    expected = make_recipe(apply_changes(full_recipe("finetune"), {"epochs": 6}))
    assert settings.master_training.recipe() == replace(expected, precision="fp32")
    assert not settings.trial_training.linear_start, "the MasterNet's classifier is trained"
    assert (settings.trial_training.epochs, settings.trial_training.thaw) == (20, "block")
    assert "recipe" not in settings.to_toml()
    assert SearchSettings.from_toml(settings.to_toml()) == settings


def test_no_training_of_a_search_is_lengthened() -> None:
    table = {"recipe": "finetune"}
    assert SearchSettings(**GIVEN, master_training=table).master_training.recipe().least_steps == 0
    for fields in ({"least_steps": 9}, {**table, "least_steps": 9}):
        with pytest.raises(SettingsError, match=r"unknown setting 'master_training\.least_steps'"):
            SearchSettings(**GIVEN, master_training=fields)


def test_a_named_recipe_replaces_the_fields_of_a_layer_before() -> None:
    stored = SearchSettings(**GIVEN, trial_training={"thaw": "all"}).to_dict()
    merged = merge_settings(stored, {"trial_training": {"recipe": "nas", "epochs": 3}})
    training = SearchSettings(**merged).trial_training
    assert (training.thaw, training.precision) == ("all", "fp32")
    assert (training.epochs, training.batch_size, training.learning_rate) == (3, 256, 0.01)
    again = merge_settings(merged, {"trial_training": {"learning_rate": 0.5}})
    assert SearchSettings(**again).trial_training.learning_rate == 0.5


@pytest.mark.parametrize(
    ("table", "values", "sentence"),
    [
        ("final", {"compile": True}, "final_training.compile must be false, because torch.compile"),
        (
            "trial",
            {"linear_start": True},
            "trial_training.linear_start must be false, because a trial starts with the trained",
        ),
        ("master", {"recipe": "finetun"}, "unknown recipe 'finetun'; did you mean finetune?"),
        ("master", {"recipe": 3}, "unknown recipe '3'"),
        ("master", {"recip": "quick"}, "did you mean master_training.recipe"),
        ("master", {"mixup": -1}, "master_training.mixup must be greater than or equal to 0"),
        ("master", {"mixup": float("nan")}, "master_training.mixup must be a finite number"),
        ("final", {"crop_area": [1, 0.5]}, "final_training: crop_area must be ascending"),
        ("final", {"mixup": 0.2, "batch_size": 33}, "final_training: batch_size must be even"),
        ("final", {"auto_augment": "rand-zz9"}, "final_training: auto_augment must be a policy"),
        ("trial", {"erase": 2}, "trial_training.erase must be less than or equal to 1, not 2"),
        ("trial", {"optimizer": "adam"}, "trial_training.optimizer must be 'sgd' or 'adamw'"),
    ],
)
def test_wrong_trainings_are_one_sentence(table, values, sentence) -> None:
    with pytest.raises(SettingsError) as caught:
        SearchSettings(**GIVEN, **{f"{table}_training": values})
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("preset", ["paper", "paper-literal", "imagenet"])
def test_the_paper_trains_from_scratch_without_starting_weights(preset, tmp_path) -> None:
    assert settings_at(tmp_path, preset, GIVEN)["from_scratch"] is True
    for weights in ({"pretrained": True}, {"weights": "w.safetensors"}, {"master": str(tmp_path)}):
        assert "from_scratch" not in settings_at(tmp_path, preset, GIVEN | weights)
    again = settings_at(tmp_path, preset, GIVEN | {"pretrained": True, "from_scratch": True})
    assert again["from_scratch"] is True


def test_a_network_of_the_zoo_is_no_folder(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "genet_light").mkdir()
    given = GIVEN | {"master": "genet_light"}
    assert settings_at(tmp_path / "study", "imagenet", given)["from_scratch"] is True
    assert settings_at(tmp_path / "study", "photos", given)["pretrained"] is True


@pytest.mark.parametrize("weights", [{"pretrained": True}, {"from_scratch": False}])
def test_a_preset_changes_neither_weights_nor_way_of_a_study(weights, tmp_path) -> None:
    chosen = SearchSettings(**settings_at(tmp_path / "study", "imagenet", GIVEN | weights))
    with Study.create_or_resume(tmp_path / "study", chosen):
        pass
    assert SearchSettings(**settings_at(tmp_path / "study", "imagenet")) == chosen


def test_weights_are_inherited_by_default() -> None:
    assert SearchSettings(**GIVEN).from_scratch is False


def test_a_study_that_did_not_record_the_way_was_trained_from_scratch() -> None:
    assert SearchSettings.from_toml('data = "digits"\nbudget = "1x"\n').from_scratch is True
