"""Options that several commands share, and groups of options; see `option_groups`."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import fields
from inspect import Parameter
from itertools import product
from typing import Annotated, Any, ClassVar, get_args, get_origin

import typer

from genets.latency.target import AUTO, DEVICES, ENGINE_PROVIDERS, PRECISIONS, Target

# The titled panels of `--help`, from the top. Options without a panel stand under "Options".
START, DATA, TARGET = "Settings", "Data and budget", "Target"
MASTER, SPACE = "MasterNet", "Search space"
TRIALS, TRAINING, WORKERS, WEIGHTS = "Trials", "Training", "Workers", "Weights"
CANDIDATES, OTHER, OUTPUT = "Candidates", "Options", "Output"
PANELS = (
    START, DATA, TARGET, MASTER, SPACE, TRIALS, TRAINING, WORKERS, WEIGHTS, CANDIDATES, OTHER,
    OUTPUT,
)  # fmt: skip

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


def option(
    help: str,
    default: object = None,
    panel: str | None = None,
    *,
    name: str | None = None,
    choices: Collection[str] = (),
    **more: Any,
) -> Any:
    """Make an option for `Annotated`.

    Args:
        help: What the option means, complete without the help of other options.
        default: What is used where the option is left out and the parameter has no default.
        panel: Panel of `--help`.
        name: Name of the option, if it differs from that of the parameter; also of a flag.
        choices: The allowed values; another value ends in a sentence with the nearest choice.
        more: Passed on to `typer.Option`.
    """
    if default is not None:
        help = f"{help}  [default: {default}]"
    if choices:
        more |= {"metavar": "|".join(choices), "callback": _checker(choices)}
        more |= {"autocompletion": lambda: list(choices)}
    if "min" in more:
        more.setdefault("metavar", "<int>")  # in place of "<int range>"
    return typer.Option(*([name] if name else []), help=help, rich_help_panel=panel, **more)


def complete_structures() -> list[str]:
    """Return the names of the zoo, for the completion of the shell."""
    from genets.structure import zoo

    return list(zoo)


def complete_networks() -> list[str]:
    """Return the names of the zoo and of the baselines, for the completion of the shell."""
    from genets.structure.published import published_networks

    return [*complete_structures(), *published_networks]


def network_argument(help: str) -> Any:
    """Make an argument that takes a NETWORK, or several of them; the shell completes names."""
    return typer.Argument(help=help, autocompletion=complete_networks)


def _checker(choices: Collection[str]) -> Callable[..., Any]:
    def check(param: typer.CallbackParam, value: Any) -> Any:
        from genets.core.errors import GenetsError, unknown_name

        for text in value if isinstance(value, list | tuple) else [value]:
            if text is not None and text not in choices:
                raise GenetsError(unknown_name(param.opts[0].lstrip("-"), text, choices))
        return value

    return check


def _check_finite(param: typer.CallbackParam, value: float) -> float:
    from genets.core.errors import GenetsError

    if not math.isfinite(value):
        raise GenetsError(f"{param.opts[0]} must be finite, not {value}")
    return value


def check_seconds(param: typer.CallbackParam, value: float) -> float:
    """Return the value of an option. Raises GenetsError unless it is above 0 and finite."""
    from genets.core.errors import GenetsError

    if not 0 < value < math.inf:
        raise GenetsError(f"{param.opts[0]} must be above 0 and finite, not {value}")
    return value


Json = Annotated[
    bool, option("Print JSON for machines, and nothing else.", panel=OUTPUT, name="--json")
]
Seed = Annotated[
    int,  # `max` is the largest seed that PyTorch takes
    option(
        "Random seed (initial weights, validation split, sampled networks).", min=0, max=2**63 - 1
    ),
]
SplitSeed = Annotated[
    int | None,
    option(
        "Random seed of the validation split, and of fresh weights.",
        "the seed of the training, or 0",
        min=0,
        max=2**63 - 1,
    ),
]
Resolution = Annotated[int | None, option("Input size in pixels.", "the network's own")]
MaxBrokenShare = Annotated[
    float | None,
    option(
        "Largest share of images that may be broken, 0 to 1. One broken image is no error unless "
        "the share is 0.",
        "the share of the training, or 0.01",
        name="--max-broken-share",
    ),
]
MasterResolution = Annotated[
    int | None,
    option(
        "Input size of the MasterNet in pixels.",
        "that of --master; without --master, from the images",
        MASTER,
    ),
]
Wait = Annotated[
    float,
    option(
        "Longest time to wait, in minutes, until other processes leave the device.",
        name="--wait",
        metavar="MINUTES",
        min=0,
        callback=_check_finite,
    ),
]
Protocol_ = Annotated[
    str,
    option(
        "How latency is measured; `paper` is the trimmed mean of 30 runs (section 3.2).",
        name="--protocol",
        choices=("genets-1", "paper"),
    ),
]


def given(**options: Any) -> dict[str, Any]:
    """Return the options that were given on the command line."""
    return {name: value for name, value in options.items() if value is not None}


def optional_parameter(name: str, kind: Any, made: Any) -> Parameter:
    """Make a parameter for an option that may be left out. made: the result of `option`."""
    annotation = Annotated[kind | None, made]
    return Parameter(name, Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


class TargetOptions:
    """The options of a target; the command receives fields of `genets.Target`.

    Args:
        default: Text for the default of every option; None means the defaults of `Target`.
        several: Whether engine, precision and batch size may be repeated.
        defaults: Default texts that differ, by option.
    """

    def __init__(self, default: str | None = None, *, several: bool = False, **defaults: str):
        self._several = several
        usual = {field.name: str(field.default) for field in fields(Target)}
        usual |= {"provider": "the provider of the device", "threads": "all physical cores"}
        self._defaults = {name: default or text for name, text in usual.items()} | defaults

    def parameters(self) -> list[Parameter]:
        providers = sorted({name for names in ENGINE_PROVIDERS.values() for name in names})
        make = self._parameter
        any_device: dict[str, Any] = {"metavar": "auto|cpu|cuda|cuda:NUMBER"}
        any_device["autocompletion"] = lambda: list(DEVICES)
        device = (
            "Device that runs the network. auto: CUDA if a GPU of this machine can run the target "
            "and --threads is not given; otherwise the CPU."
        )
        engine = "Inference engine; auto is torch-graph on CUDA and torch on a CPU."
        number = "Number format of the network; engine and device limit the choice."
        return [
            make("device", device, **any_device),
            make("engine", engine, choices=(AUTO, *ENGINE_PROVIDERS), several=True),
            make("provider", "ONNX Runtime execution provider.", choices=providers),
            make("precision", number, choices=PRECISIONS, several=True),
            make("batch_size", "Number of images in one run.", kind=int, several=True),
            make("threads", "Number of CPU threads in one run.", kind=int),
        ]

    def _parameter(
        self, name: str, help: str, *, kind: Any = str, several: bool = False, **more: Any
    ) -> Parameter:
        if several and self._several:
            more.setdefault("metavar", f"<{kind.__name__}>")
            kind, help = list[kind], f"{help.rstrip('.')}; may be repeated."
        return optional_parameter(name, kind, option(help, self._defaults[name], TARGET, **more))

    def collect(self, given: dict[str, Any]) -> dict[str, Any]:
        return given


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


def make_target(options: Mapping[str, Any], base: Target | None = None) -> Target:
    """Return a target with the options that are not None.

    Args:
        options: Fields of a target.
        base: The target of the other fields; None means the default target. Where the options
            change the kind of the device, an engine that `auto` chooses for the device of `base`
            becomes the engine that `auto` chooses for the new device.

    Raises:
        TargetError: An option is wrong.
    """
    options = given(**options)
    values = base.to_json() if base else {}
    if options.get("device", "cpu") != "cpu":
        values.pop("threads", None)  # the threads of `base` are those of a CPU
    if base and "device" in options and "engine" not in options:
        chosen = Target.from_json(values | options | {"engine": AUTO, "provider": None})
        automatic = Target(base.device).engine
        if chosen.is_cpu != base.is_cpu and base.engine == automatic:
            values["engine"] = chosen.engine
    return Target.from_json(values | options)


def check_int8_images(target: Target, data: str | None) -> None:
    """Raise GenetsError where the target quantises the network, and no images are given."""
    from genets.core.errors import GenetsError

    if target.precision == "int8" and data is None:
        raise GenetsError("precision int8 needs --data: its training images set the value ranges")


def make_targets(options: Mapping[str, Any]) -> list[Target]:
    """Return every combination of engines, precisions and batch sizes.

    Args:
        options: Fields of a target; the three fields are lists. Batch sizes are sorted and vary
            fastest. A provider applies to the engines that have providers.

    Raises:
        TargetError: An option is wrong.
    """
    common = dict(options)
    engines: Sequence[str] = common.pop("engine", ())
    lists = (
        [("engine", name) for name in engines],
        [("precision", name) for name in common.pop("precision", ())],
        [("batch_size", size) for size in sorted(common.pop("batch_size", ()))],
    )
    targets = []
    for pairs in product(*(pairs or [None] for pairs in lists)):
        values = dict(pair for pair in pairs if pair) | common
        if len(engines) > 1 and not ENGINE_PROVIDERS.get(str(values.get("engine"))):
            values.pop("provider", None)
        targets.append(make_target(values))
    return targets


def preset_names() -> tuple[str, ...]:
    """Return the presets of a search."""
    from genets.nas.settings.presets import PRESETS

    return tuple(PRESETS)


def metric_names() -> tuple[str, ...]:
    """Return the validation scores that can decide."""
    from genets.training.score import Metric

    return tuple(Metric)


def recipe_names() -> tuple[str, ...]:
    """Return the recipes of a training."""
    from genets.training.recipe import recipes

    return tuple(recipes())
