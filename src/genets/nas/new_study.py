"""The settings of a new study: merged from a preset and options, and completed from its data."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genets.core.data_name import LOADERS
from genets.core.errors import SettingsError, counted, unknown_name
from genets.core.image_facts import FEW_VALIDATION_IMAGES
from genets.nas.settings.from_data import (
    MANY_IMAGES,
    MIN_PHOTO_SIDE,
    PHOTO_MASTER,
    fitting_resolution,
    settings_from_data,
    tuned_master,
)
from genets.nas.settings.presets import (
    MASTER_TRAINING,
    OF_FINE_TUNING,
    OF_SMALL_IMAGES,
    PRESETS,
    TRAININGS,
    TRIAL_TRAINING,
)
from genets.nas.settings.settings import SearchSettings
from genets.nas.settings.toml_tables import merge_settings
from genets.nas.settings.training import (
    RECIPE,
    USED_BY_INHERITED_TRIALS,
    TrainingSettings,
    TrialSettings,
)
from genets.nas.study.reader import is_study, load_settings
from genets.structure import zoo
from genets.training.recipe import describe_unused

if TYPE_CHECKING:
    from genets.core.image_facts import ImageSizes
    from genets.data import ImageData

MEASURED_AT = 64  # any resolution, because only the sizes of the files are read


@dataclass(frozen=True, slots=True)
class CompleteSettings:
    """The settings of a study, and why some of them were chosen.

    Attributes:
        values: Values for `SearchSettings`.
        reasons: One line for each choice that follows from the data.
    """

    values: Mapping[str, Any]
    reasons: tuple[str, ...] = ()


def settings_at(out: Path, preset: str | None, *layers: Mapping[str, Any]) -> dict[str, Any]:
    """Merge the settings of a study, of a preset and of further layers; later ones win.

    Starting weights replace those of a preset, and candidates then inherit weights. A study has
    decided both.

    Args:
        out: Folder of a study; a folder without a study contributes nothing.
        preset: Name of a preset, or None.
        layers: Partial settings.

    Raises:
        SettingsError: The preset is unknown, or for a study, a setting is unknown or wrong.
        StudyError: The study is damaged or of a newer version.
        BlockFileError: A file with own block types is missing, fails or has changed.
        GenetsError: For a study, a budget, the target or the MasterNet is wrong.
    """
    if preset is not None and preset not in PRESETS:
        raise SettingsError(unknown_name("preset", preset, PRESETS))
    stored = load_settings(out).to_dict() if is_study(out) else {}
    chosen = dict(PRESETS[preset]) if preset else {}
    given = merge_settings(*layers)
    master = str(given.get("master", ""))
    has_weights = given.get("weights") or (master not in zoo and os.path.isdir(master))
    if stored or has_weights:  # other weights replace the published ones
        chosen.pop("pretrained", None)
    if stored or has_weights or given.get("pretrained"):
        chosen.pop("from_scratch", None)
    merged = merge_settings(stored, chosen, given)
    if stored and "screen" not in chosen | given:
        # A study screens no structure after such a change, so the change itself is the difference.
        others = {name: value for name, value in merged.items() if name != "screen"}
        if not SearchSettings(**others).screen:
            merged["screen"] = 0
    return merged


def complete_settings(
    chosen: Mapping[str, Any], out: str | Path, preset: str | None = None
) -> CompleteSettings:
    """Complete the settings of a new study from the number and the size of its images.

    MasterNet and resolution follow from the data unless they are given, and the recipes unless a
    preset or a table of a training gives them; the epochs of the preset `photos` follow from the
    data, too. The preset `quick` and data sets that draw their own images take the defaults.
    Photographs start from published weights that are on this machine. A MasterNet with starting
    weights is fine-tuned. Where the space has block types of the user's own, trials and candidates
    are trained from scratch unless the settings say otherwise. A study that exists stays as it is.

    Args:
        chosen: The given settings, with those of the preset.
        out: The folder of the study.
        preset: The name of the preset, if one is given.

    Raises:
        GenetsError: A setting is wrong, or the images cannot be read.
    """
    settings = SearchSettings(**chosen)  # wrong settings are refused before images are read
    if is_study(Path(out)):
        return CompleteSettings(chosen)
    if preset in OF_FINE_TUNING and not settings.has_starting_weights:
        raise SettingsError(
            f"preset {preset} fine-tunes trained weights; give weights, or leave the preset out"
        )
    sizes = _measure_images(settings, chosen, preset)
    of_data = _settings_of_data(settings, chosen, preset, sizes)
    of_blocks = _settings_of_own_blocks(settings, chosen)
    values = merge_settings(of_data.values, of_blocks.values, chosen)
    of_weights = _settings_of_weights(values, chosen, preset, sizes)
    values = merge_settings(values, of_weights.values)
    reasons = (*of_data.reasons, *of_blocks.reasons, *of_weights.reasons)
    unused = _unused_fields_of_trials(SearchSettings(**values), chosen, preset)
    return CompleteSettings(values, (*reasons, unused) if unused else reasons)


def _settings_of_own_blocks(
    settings: SearchSettings, chosen: Mapping[str, Any]
) -> CompleteSettings:
    """Train from scratch where block types of the user's own cannot inherit at other widths."""
    is_decided = settings.has_starting_weights or "from_scratch" in chosen
    if is_decided or not settings.has_own_types:
        return CompleteSettings({})
    reason = (
        "from_scratch: blocks of your own inherit weights at equal widths only, so trials and "
        "candidates are trained from scratch"
    )
    return CompleteSettings({"from_scratch": True}, (reason,))


def _unused_fields_of_trials(
    settings: SearchSettings, chosen: Mapping[str, Any], preset: str | None
) -> str:
    """Name the given fields of trials that trials with inherited weights do not use."""
    if settings.from_scratch:
        return ""
    usual = TrialSettings().model_dump()
    usual |= PRESETS[preset].get(TRIAL_TRAINING, {}) if preset else {}
    unused = [
        name
        for name, value in _given_fields(chosen, TRIAL_TRAINING).items()
        if name not in USED_BY_INHERITED_TRIALS and value != usual[name]
    ]
    if not unused:
        return ""
    verb = "is" if len(unused) == 1 else "are"
    return (
        f"{', '.join(unused)} of {TRIAL_TRAINING} {verb} unused, because trials inherit weights; "
        "feature_steps sets the length of such a trial"
    )


def _given_fields(chosen: Mapping[str, Any], table: str) -> Mapping[str, Any]:
    """The fields of a table of a training, which may be a model, as they were given."""
    given = chosen.get(table, {})
    if isinstance(given, TrainingSettings):
        given = given.model_dump(include=given.model_fields_set)
    fields: Mapping[str, Any] = given
    return fields


def _measure_images(
    settings: SearchSettings, chosen: Mapping[str, Any], preset: str | None
) -> ImageSizes | None:
    """Count and measure the images; None where no setting follows from them."""
    follows = "master" not in chosen or not _has_recipes(chosen, preset)
    follows = preset in OF_FINE_TUNING or (follows and preset not in OF_SMALL_IMAGES)
    follows |= _fields_of_tuned_master(settings, chosen, preset) is not None
    if settings.data in LOADERS or not follows:
        return None
    from genets.data.image_sizes import measure_images
    from genets.nas.image_loading import load_images

    return measure_images(load_images(settings, MEASURED_AT))


def _has_recipes(chosen: Mapping[str, Any], preset: str | None) -> bool:
    return preset is not None or all(RECIPE in chosen.get(table, {}) for table in TRAININGS)


def _settings_of_data(
    settings: SearchSettings,
    chosen: Mapping[str, Any],
    preset: str | None,
    sizes: ImageSizes | None,
) -> CompleteSettings:
    """Choose settings by the number and the size of the images; see `complete_settings`."""
    if settings.data in LOADERS:
        recipes = [getattr(settings, table).recipe() for table in TRAININGS]
        unused = describe_unused(settings.data, *recipes)
        return CompleteSettings({}, (unused,) if unused else ())
    if sizes is None or preset in OF_SMALL_IMAGES:
        return CompleteSettings({})
    has_master, has_recipes = "master" in chosen, _has_recipes(chosen, preset)
    of_start = CompleteSettings({})
    if not settings.has_starting_weights and sizes.images >= MANY_IMAGES:
        of_start = _settings_of_many_images(chosen, preset)
    elif not has_master and not has_recipes:
        of_start = _settings_of_start(sizes, settings, chosen)
    of_sizes = settings_from_data(
        sizes,
        master=not has_master,
        resolution=settings.resolution if has_master else chosen.get("resolution"),
        recipes=not has_recipes,
        fine_tuning=preset in OF_FINE_TUNING,
        has_weights=settings.has_starting_weights or "pretrained" in of_start.values,
    )
    return CompleteSettings(
        {**of_sizes.settings, **of_start.values}, (*of_sizes.reasons, *of_start.reasons)
    )


def _settings_of_many_images(chosen: Mapping[str, Any], preset: str | None) -> CompleteSettings:
    """Train from scratch where inherited weights were never tried."""
    if preset is not None or "from_scratch" in chosen:
        return CompleteSettings({})
    reason = "from_scratch: inherited weights were tried with fewer images only"
    return CompleteSettings({"from_scratch": True}, (reason,))


def _settings_of_start(
    sizes: ImageSizes, settings: SearchSettings, chosen: Mapping[str, Any]
) -> CompleteSettings:
    """Start from published weights that are on this machine, where they fit the images."""
    is_decided = settings.has_starting_weights or settings.has_own_types or settings.from_scratch
    side = chosen.get("resolution") or fitting_resolution(sizes.median_side)
    if is_decided or side < MIN_PHOTO_SIDE or chosen.keys() & {"pretrained", *TRAININGS}:
        return CompleteSettings({})
    from genets.networks.build import has_cached_weights

    published = f"the published weights of {PHOTO_MASTER} are"
    if has_cached_weights(zoo[PHOTO_MASTER]):
        return CompleteSettings({"pretrained": True}, (f"pretrained: {published} on this machine",))
    reason = f"fresh weights: {published} not on this machine; the preset photos fetches them"
    return CompleteSettings({}, (reason,))


def _settings_of_weights(
    values: Mapping[str, Any],
    chosen: Mapping[str, Any],
    preset: str | None,
    sizes: ImageSizes | None,
) -> CompleteSettings:
    """Fine-tune a MasterNet with starting weights, unless its recipe is given."""
    given = _fields_of_tuned_master(SearchSettings(**values), chosen, preset)
    if given is None:
        return CompleteSettings({})
    training = tuned_master(sizes.images if sizes else None, given)
    reason = (
        "recipe finetune for the MasterNet: it starts from trained weights; "
        f"{counted(training['epochs'], 'epoch')}"
    )
    return CompleteSettings({MASTER_TRAINING: training}, (reason,))


def _fields_of_tuned_master(
    settings: SearchSettings, chosen: Mapping[str, Any], preset: str | None
) -> dict[str, Any] | None:
    """The given fields of the MasterNet's training; None where it keeps its recipe."""
    is_tuned = settings.master_training.recipe().linear_start
    if is_tuned or not settings.has_starting_weights:
        return None
    usual = PRESETS[preset].get(MASTER_TRAINING, {}) if preset else {}
    given = _given_fields(chosen, MASTER_TRAINING)
    own = {name: value for name, value in given.items() if usual.get(name) != value}
    return None if own.keys() & {RECIPE, "optimizer", "learning_rate"} else own


def choose_folds(
    settings: SearchSettings, data: ImageData, out: Path
) -> tuple[SearchSettings, tuple[str, ...]]:
    """Decide whether trials and candidates are cross-validated, where the settings leave it open.

    A study that exists keeps its number of folds.

    Args:
        settings: The settings of the search.
        data: The images.
        out: The folder of the study.

    Returns:
        The settings, and the reason where the number of folds follows from the data, or where
        few validation images decide without folds.

    Raises:
        SettingsError: There are more folds than images, or the starting weights were trained on
            images of the same data.
        GenetsError: The starting weights are missing or damaged.
    """
    if is_study(out):
        return _with_folds(settings, settings.folds or load_settings(out).folds), ()
    from genets.data.folds import choose_num_folds, count_fold_images, obstacle_to_folds
    from genets.networks.weights_facts import were_trained_on

    images = count_fold_images(data)
    if settings.folds > images:
        raise SettingsError(
            f"folds must be at most {images}, the number of training images, not {settings.folds}"
        )
    has_seen = were_trained_on(settings.weights, data.origin)
    if settings.folds > 1 and has_seen:
        raise SettingsError(
            f"folds must be 1, not {settings.folds}, because the starting weights were trained on "
            "images of the same data, and a fold must hold images that the MasterNet has not seen"
        )
    if settings.folds:
        return settings, ()
    obstacle = ""
    if settings.rounds > 1:
        obstacle = "a search with several rounds has no folds"
    elif has_seen:
        obstacle = "the starting weights were trained on images of the same data"
    folds = 1 if obstacle else choose_num_folds(data)
    few = counted(len(data.validation), "validation image")
    reasons: tuple[str, ...] = ()
    if folds > 1:
        reasons = (
            f"folds {folds}: with {few}, trials and candidates are cross-validated on "
            f"{counted(images, 'training image')}",
        )
    elif len(data.validation) < FEW_VALIDATION_IMAGES:
        obstacle = obstacle or obstacle_to_folds(data)
        reasons = (f"folds 1: {few} decide alone, because {obstacle}",)
    return _with_folds(settings, folds), reasons


def _with_folds(settings: SearchSettings, folds: int) -> SearchSettings:
    return settings.model_copy(update={"folds": folds})
