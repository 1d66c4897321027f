"""The options of a target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from inspect import Parameter
from itertools import product
from typing import Any

from genets.cli.options import TARGET, given, option, optional_parameter
from genets.latency.target import AUTO, DEVICES, ENGINE_PROVIDERS, PRECISIONS, Target


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
