"""Options that several commands share, and the parts from which commands make their options."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from inspect import Parameter
from typing import Annotated, Any

import typer

# The titled panels of `--help`, from the top. Options without a panel stand under "Options".
START, DATA, TARGET = "Settings", "Data and budget", "Target"
MASTER, SPACE = "MasterNet", "Search space"
TRIALS, TRAINING, WORKERS, WEIGHTS = "Trials", "Training", "Workers", "Weights"
CANDIDATES, OTHER, OUTPUT = "Candidates", "Options", "Output"
PANELS = (
    START, DATA, TARGET, MASTER, SPACE, TRIALS, TRAINING, WORKERS, WEIGHTS, CANDIDATES, OTHER,
    OUTPUT,
)  # fmt: skip


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
        help: The meaning of the option, complete without the help of other options.
        default: Text for the value of an option that is left out and has no default in Python.
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
WeightsResolution = Annotated[
    int | None,
    option("Input size in pixels.", "that of the training of the weights, or the network's own"),
]
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
