"""Search settings: one sentence for a wrong value, TOML without loss."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genets.core.errors import DataError, GenetsError, SettingsError, StructureError, TargetError
from genets.core.resumable import flatten
from genets.latency import Target
from genets.nas.settings.presets import PRESETS
from genets.nas.settings.settings import SearchSettings
from genets.nas.settings.toml_tables import load_settings_file, merge
from genets.structure import Block, DesignSpace, zoo
from genets.structure.space import PAPER_BLOCKS

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
