"""The settings of a search as options."""

from __future__ import annotations

from inspect import Parameter
from typing import Any, ClassVar, get_args, get_origin

from genets.cli.options import (
    CANDIDATES,
    DATA,
    MASTER,
    SPACE,
    TRAINING,
    TRIALS,
    complete_structures,
    option,
    optional_parameter,
    recipe_names,
)

# The settings with an option of `genets search`, by panel. `--set` takes all settings.
SETTINGS = {
    DATA: ("data", "max_broken_share", "budget", "budgets"),
    MASTER: ("master", "pretrained", "weights"),
    SPACE: (
        "space.resolutions", "space.blocks", "space.width_range", "space.width_step",
        "space.depth_change", "space.stem_width_range", "space.head_width_range",
    ),
    TRIALS: (
        "trials_per_super_block", "controls_per_super_block", "rounds", "folds", "metric",
        "trial_weights_mb",
    ),
    TRAINING: (
        "master_training.epochs", "trial_training.epochs", "final_training.epochs", "seed",
    ),
    CANDIDATES: ("screen", "confirm", "confirm_epochs", "from_scratch", "rivals"),
}  # fmt: skip

# The settings that follow from the images of a new study (`genets.nas.settings.from_data`), and the
# images for which they have the default of `SearchSettings`.
FROM_IMAGES = {
    "master": "small images",
    "pretrained": "small images",
    "master_training.epochs": "small images",
    "final_training.epochs": "small images",
    "confirm_epochs": "small images",
    "from_scratch": "fewer than 100,000 images",
}
# Where the option says more than the description of the table of settings.
SUBJECTS = {"trial_training.epochs": "Training of each trial, only with --from-scratch"}


class SettingOptions:
    """Settings of a search as options; the command receives settings for `SearchSettings`.

    Args:
        panels: Keys of `SETTINGS` whose settings become options.
        remark: A sentence at the end of each help text.
    """

    def __init__(self, *panels: str, remark: str = "") -> None:
        self._remark = remark
        self._keys = {option_name(key): key for panel in panels for key in SETTINGS[panel]}
        self._panels = {key: panel for panel in panels for key in SETTINGS[panel]}

    def parameters(self) -> list[Parameter]:
        return [self._parameter(name, key) for name, key in self._keys.items()]

    def _parameter(self, name: str, key: str) -> Parameter:
        from genets.nas.settings.defaults import DEFAULTS_IN_WORDS
        from genets.nas.settings.presets import PRESETS
        from genets.nas.settings.settings import SearchSettings
        from genets.nas.settings.training import TrainingSettings

        table, _, field = key.rpartition(".")
        outer = SearchSettings.model_fields.get(table)
        model: Any = outer.annotation if outer else SearchSettings
        info = model.model_fields[field]
        help = info.description
        if outer and issubclass(model, TrainingSettings):
            subject = SUBJECTS.get(key, str(outer.description).rstrip("."))
            help = f"{subject}: {help[0].lower()}{help[1:]}"
        if self._remark:
            help = f"{help} {self._remark}"
        default: Any = "none; a new study needs it" if info.is_required() else info.default
        if default is None:
            default = "none"
        if outer and not outer.is_required():
            default = getattr(outer.default, field)
        kind, choices = _option_type(info.annotation)
        more: dict[str, Any] = {"metavar": "LOW HIGH"} if get_origin(kind) is tuple else {}
        if key == "master":
            more["autocompletion"] = complete_structures
        if kind is bool and not any(key in preset for preset in PRESETS.values()):
            more["name"] = f"--{name.replace('_', '-')}"  # a flag without its opposite
        shown = DEFAULTS_IN_WORDS.get(key, _text(default, kind))
        if key in FROM_IMAGES:
            shown = f"from the images; {shown} for {FROM_IMAGES[key]}"
        made = option(help, shown, self._panels[key], choices=choices, **more)
        return optional_parameter(name, kind, made)

    def collect(self, given: dict[str, Any]) -> dict[str, Any]:
        settings: dict[str, Any] = {}
        for name, value in given.items():
            table, _, field = self._keys[name].rpartition(".")
            (settings.setdefault(table, {}) if table else settings)[field] = value
        return settings


class RecipeOptions:
    """The named recipes of the trainings of a search; the command receives their tables."""

    TABLES: ClassVar = {
        "master_recipe": ("master_training", "the MasterNet"),
        "trial_recipe": ("trial_training", "each trial"),
        "final_recipe": ("final_training", "candidates and winner"),
    }
    CONDITIONS: ClassVar = {
        "trial_recipe": " Without --from-scratch, only batch size, precision and augmentation of "
        "the recipe count.",
    }

    def parameters(self) -> list[Parameter]:
        return [
            optional_parameter(
                name,
                str,
                option(
                    f"Recipe that trains {subject}, as --recipe of `genets train`. The recipe "
                    "replaces every setting of this training that the preset has."
                    + self.CONDITIONS.get(name, ""),
                    "from the preset or the images",
                    TRAINING,
                    choices=recipe_names(),
                ),
            )
            for name, (_, subject) in self.TABLES.items()
        ]

    def collect(self, given: dict[str, Any]) -> dict[str, Any]:
        return {self.TABLES[name][0]: {"recipe": value} for name, value in given.items()}


def option_name(key: str) -> str:
    """Return the name of the option of a setting, with `_` for `-`; `key` as in `SETTINGS`."""
    table, _, field = key.rpartition(".")
    return f"{table.removesuffix('_training')}_{field}" if "_training" in table else field


def _option_type(annotation: Any) -> tuple[Any, tuple[str, ...]]:
    """The type of an option on the command line, and its choices."""
    from enum import Enum

    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return str, tuple(str(member.value) for member in annotation)
    is_list = get_origin(annotation) is tuple and Ellipsis in get_args(annotation)
    return (str if is_list else annotation), ()


def _text(default: Any, kind: Any) -> str:
    if isinstance(default, tuple):
        separator = "," if kind is str else " "
        return separator.join(map(str, default)) or "none"
    if default is False:
        return "no"
    return str(default) or "none"
