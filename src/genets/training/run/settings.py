"""The settings of a training run: one frozen value, stored in `settings.json`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field

from genets.core.data_name import make_data_absolute
from genets.core.errors import SettingsError, check_path_text
from genets.core.image_facts import MAX_BROKEN_SHARE
from genets.core.validation import check_fields, from_plain
from genets.networks.folder_name import find_results_folder, is_network_name
from genets.networks.source import read_start
from genets.structure import Structure
from genets.training.recipe import RunRecipe
from genets.training.score import Metric

NotNegative = Annotated[int, Field(ge=0)]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSettings:
    """Everything that the final weights depend on, and the share of broken images.

    Attributes:
        network: The network to train; see `resolve_network`. A structure file is stored as its
            notation. So is a results folder, which also gives the starting weights.
        data: The data set; see `load_data`.
        recipe: The recipe.
        recipe_name: The named recipe that the fields started from. Only the fields count.
        resolution: Input pixels along a side; None is the resolution that the starting weights
            of a named network state, or the network's own.
        seed: The seed of everything that is random.
        pretrained: Start from published weights.
        weights: Start from this file of weights; empty for none.
        teacher: A trained network whose outputs are learned from; empty for none.
        teacher_weights: A file of the teacher's weights. Empty for published weights, or for
            those of a results folder.
        normalisation: The mean and deviation of the images: `weights` takes those that the
            starting weights were trained with, where these are known; `data` those of the data.
        metric: The validation score that decides which epoch is the best one; of equal epochs,
            the one with the lower cross-entropy. None is balanced accuracy where the recipe has
            balanced class weights, and otherwise top-1.
        max_broken_share: The largest share of broken images that is no error; see `load_data`. It
            may change during a run.

    Raises:
        GenetsError: A value is wrong, or a file or folder cannot be read.
    """

    network: str
    data: str
    recipe: RunRecipe
    recipe_name: str = ""
    resolution: NotNegative | None = None
    seed: NotNegative = 0
    pretrained: bool = False
    weights: str = ""
    teacher: str = ""
    teacher_weights: str = ""
    normalisation: Literal["weights", "data"] = "weights"
    metric: Metric | None = None
    max_broken_share: Annotated[float, Field(ge=0, le=1)] = MAX_BROKEN_SHARE

    def __post_init__(self) -> None:
        if isinstance(self.metric, str):
            object.__setattr__(self, "metric", Metric.parse(self.metric))
        check_fields(self, raises=SettingsError)
        for name in ("network", "data"):
            if not getattr(self, name).strip():
                raise SettingsError(f"{name} must be given")
        network, own_weights = _portable(self.network.strip())
        if sum([bool(own_weights), bool(self.weights), self.pretrained]) > 1:
            raise SettingsError(
                "weights come from one place: pretrained, a weights file or a results folder"
            )
        object.__setattr__(self, "network", network)
        object.__setattr__(self, "weights", own_weights or self.weights)
        if self.teacher_weights and (not self.teacher or find_results_folder(self.teacher)):
            raise SettingsError(
                "teacher_weights need the name of a network as teacher; a results folder has its "
                "own weights"
            )
        object.__setattr__(self, "data", make_data_absolute(self.data))
        if not is_network_name(self.teacher):
            object.__setattr__(self, "teacher", _absolute(self.teacher))
        for name in ("weights", "teacher_weights"):
            object.__setattr__(self, name, _absolute(getattr(self, name)))
        for name in ("network", "data", "weights", "teacher", "teacher_weights"):
            check_path_text(name, getattr(self, name))

    @property
    def deciding_metric(self) -> Metric:
        """The validation score that decides which epoch is the best one."""
        is_weighted = self.recipe.class_weights == "balanced"
        return self.metric or (Metric.BALANCED_ACCURACY if is_weighted else Metric.TOP1)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Self:
        """Read the output of `to_json`. Raises GenetsError."""
        record = dict(record)
        if isinstance(record.get("recipe"), Mapping):  # runs that recorded no precision were fp32
            record["recipe"] = {"precision": "fp32", **record["recipe"]}
        record = {"normalisation": "data", **record}  # the only one of older runs
        return from_plain(cls, record, kind="setting", raises=SettingsError)

    def comparable(self) -> dict[str, Any]:
        """The values that a run depends on, with the fields of the recipe among them."""
        record = self.to_json()
        del record["recipe_name"], record["max_broken_share"]
        recipe = record.pop("recipe")
        return {**record, **recipe, "metric": self.deciding_metric}


def _portable(text: str) -> tuple[str, str]:
    """A text for the network that is valid in every folder, and the path of its weights, if any."""
    path = Path(text)
    if text.endswith(".toml"):
        return str(Structure.load(path)), ""
    if not find_results_folder(text):
        return text, ""
    return read_start(path)


def _absolute(path: str) -> str:
    """The absolute path of an existing file or folder; other texts stay as they are."""
    expanded = os.path.expanduser(path)
    return os.path.abspath(expanded) if os.path.exists(expanded) else path
