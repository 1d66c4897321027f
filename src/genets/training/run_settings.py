"""Settings of a training run: one frozen value, kept in `settings.json`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Self

from genets.core.errors import GenetsError, SettingsError, shown, unknown_name
from genets.networks.weights import STRUCTURE_FILE, WEIGHTS_FILE, check_results, read_weights
from genets.structure import Structure
from genets.training.recipe import RunRecipe, make_recipe

TEXTS = ("network", "data", "recipe_name", "weights", "teacher", "teacher_weights")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSettings:
    """All that decides the weights in the end. Raises GenetsError for a wrong value.

    network: what is trained; see `resolve_network`. A structure file or a results folder is
        kept as what it says, and a results folder gives its weights too.
    data: see `load_data`.
    recipe_name: where the recipe began; its fields alone count.
    resolution: input pixels along a side; None is the network's own.
    pretrained: begin with published weights. weights: begin with those of this file.
    teacher: a network that knows the classes; empty for none. teacher_weights: a file of its
        weights; empty for published ones, or those of a results folder.
    """

    network: str
    data: str
    recipe: RunRecipe
    recipe_name: str = ""
    resolution: int | None = None
    seed: int = 0
    pretrained: bool = False
    weights: str = ""
    teacher: str = ""
    teacher_weights: str = ""

    def __post_init__(self) -> None:
        for name in TEXTS:
            if not isinstance(getattr(self, name), str):
                raise SettingsError(f"{name} must be text, not {shown(getattr(self, name))}")
        for name in ("network", "data"):
            if not getattr(self, name).strip():
                raise SettingsError(f"{name} must be given")
        for name in ("resolution", "seed"):
            value = getattr(self, name)
            whole = isinstance(value, int) and not isinstance(value, bool) and value >= 0
            if not whole and not (name == "resolution" and value is None):
                raise SettingsError(f"{name} must be a whole number from 0, not {shown(value)}")
        network, own_weights = _source(self.network.strip())
        if sum([bool(own_weights), bool(self.weights), self.pretrained]) > 1:
            raise SettingsError(
                "weights come from one place: pretrained, a weights file or a results folder"
            )
        object.__setattr__(self, "network", network)
        object.__setattr__(self, "weights", own_weights or _anywhere(self.weights))
        object.__setattr__(self, "data", _anywhere(self.data))
        if self.teacher_weights and (not self.teacher or Path(self.teacher).is_dir()):
            raise SettingsError(
                "teacher_weights need a teacher that is named; a results folder has its own"
            )
        for name in ("teacher", "teacher_weights"):
            object.__setattr__(self, name, _anywhere(getattr(self, name)))

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Self:
        """Raises GenetsError."""
        names = [field.name for field in fields(cls)]
        for name in record:
            if name not in names:
                raise SettingsError(unknown_name("setting", name, names))
        for name in ("network", "data", "recipe"):
            if name not in record:
                raise SettingsError(f"{name} must be given")
        return cls(**{**record, "recipe": make_recipe(record["recipe"])})


def differences(stored: RunSettings, asked: RunSettings) -> list[str]:
    """What differs, field by field: `epochs: 10 in the run, 20 asked`."""
    old, new = _flat(stored), _flat(asked)
    return [
        f"{name}: {shown(old[name])} in the run, {shown(new[name])} asked"
        for name in old
        if old[name] != new[name]
    ]


def _flat(settings: RunSettings) -> dict[str, Any]:
    record = settings.to_json()
    del record["recipe_name"]
    recipe = record.pop("recipe")
    return {**record, **recipe}


def _source(text: str) -> tuple[str, str]:
    """The network as a text that means the same everywhere, and its weights, if it has some."""
    folder = Path(text)
    if text.endswith(".toml"):
        return str(Structure.load(folder)), ""
    if not folder.is_dir():
        return text, ""
    check_results(folder)
    weights = folder / WEIGHTS_FILE
    if (folder / STRUCTURE_FILE).exists():
        return str(Structure.load(folder / STRUCTURE_FILE)), str(weights.absolute())
    _, metadata = read_weights(weights)
    if "network" not in metadata:
        raise GenetsError(f"{weights} names no network, and there is no {STRUCTURE_FILE}")
    return metadata["network"], str(weights.absolute())


def _anywhere(path: str) -> str:
    """An absolute path where there is such a file or folder; names stay as they are."""
    whole = os.path.expanduser(path)
    return os.path.abspath(whole) if path and os.path.exists(whole) else path
