"""Settings of a search: one frozen value, checked when it is made, kept in `study.toml`."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    InstanceOf,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from genets.core.errors import GenetsError, SettingsError, shown, unknown_name
from genets.latency.budget import Budget
from genets.latency.target import Target
from genets.nas.settings.layers import format_toml_tables, merge, parse_settings
from genets.structure import BLOCK_TYPES, Block, DesignSpace, Structure, zoo
from genets.training.score import Metric

if TYPE_CHECKING:
    from genets.training import Recipe

MOST_RESOLUTIONS = 16  # each is timed, and has candidates of its own that are trained

MOST_ROUNDS = 10  # each costs as many trials as the first

_BLOCK = re.compile(r"([A-Za-z]+)(\d+)(?:r(\d+(?:\.\d+)?))?")

# What a study did that was begun before there was a setting.
BEFORE: dict[str, Any] = {"confirm": 1, "sampling": "balanced", "rounds": 1}

Positive = Annotated[int, Field(gt=0)]
Seconds = Annotated[float, Field(gt=0)]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class TrainingSettings(_Model):
    """How long and how fast one kind of network is trained; see `genets.training.Recipe`.

    learning_rate: per 256 images of a batch; it grows linearly with the batch size.
    """

    epochs: Positive = 36
    batch_size: Positive = 64
    learning_rate: Annotated[float, Field(gt=0)] = 1.2
    warmup_epochs: Annotated[float, Field(ge=0)] = 1.0
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    precision: Literal["fp32", "bf16"] = "fp32"

    @model_validator(mode="after")
    def _warms_up_in_time(self) -> Self:
        if self.warmup_epochs >= self.epochs:
            raise SettingsError(
                f"warmup_epochs must be below epochs ({self.epochs}), not {self.warmup_epochs}"
            )
        return self

    def recipe(self) -> Recipe:
        from genets.training import Recipe

        return Recipe(**{field: getattr(self, field) for field in TrainingSettings.model_fields})


class TrialSettings(TrainingSettings):
    """How a trial is fine-tuned.

    thaw: `after` trains the new super-block and all that follows it; what comes before stays
        frozen and is computed once for all trials trained together. `block` trains the new
        super-block alone, as the paper says; `all` trains everything.
    """

    epochs: Positive = 6
    learning_rate: Annotated[float, Field(gt=0)] = 0.8
    warmup_epochs: Annotated[float, Field(ge=0)] = 0.5
    thaw: Literal["block", "after", "all"] = "after"


class SpaceSettings(_Model):
    """The design space (see `genets.structure.DesignSpace`); ranges as in the paper.

    blocks: the types, kernels and ratios allowed, as `XX3`, `BL5r0.25`, `DW3r6`.
    stem_width_range, head_width_range: as they are unless given; the paper gives none.
    resolutions: input sizes in pixels, beside the MasterNet's own; kept in ascending order.
    """

    blocks: tuple[str, ...] = ("XX3", "BL3r0.5", "BL3r0.25", "DW3r3", "DW3r6")
    width_range: tuple[float, float] = (0.5, 2.0)
    width_step: int = 8
    depth_change: int = 2
    resolutions: tuple[int, ...] = ()
    stem_width_range: tuple[float, float] = (1.0, 1.0)
    head_width_range: tuple[float, float] = (1.0, 1.0)

    @field_validator("blocks", "resolutions", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        """On the command line they are one text, `XX3,BL3r0.25`."""
        return value.replace(",", " ").split() if isinstance(value, str) else value

    @field_validator("resolutions")
    @classmethod
    def _are_few(cls, resolutions: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(resolutions)) < len(resolutions):
            twice = next(r for r in resolutions if resolutions.count(r) > 1)
            raise SettingsError(f"resolutions must name each input size once, not {twice} twice")
        if len(resolutions) > MOST_RESOLUTIONS:
            raise SettingsError(
                f"resolutions must be at most {MOST_RESOLUTIONS} input sizes, as candidates of "
                f"each are trained, not {len(resolutions)}"
            )
        return tuple(sorted(resolutions))

    @model_validator(mode="after")
    def _is_a_space(self) -> Self:
        self.design_space()
        return self

    def design_space(self) -> DesignSpace:
        """Raises StructureError."""
        blocks = tuple(_parse_block(text) for text in self.blocks)
        return DesignSpace(
            blocks,
            self.width_range,
            self.width_step,
            self.depth_change,
            self.resolutions,
            self.stem_width_range,
            self.head_width_range,
        )


def _structure_text(text: Any) -> str:
    """The one-line notation of a zoo name, a TOML structure file or a notation."""
    if isinstance(text, Structure):
        return str(text)
    if not isinstance(text, str):
        raise SettingsError(f"master must be a name, a file or a notation, not {shown(text)}")
    if "@" in text or any(character.isspace() for character in text):
        return str(Structure.parse(text))
    return str(Structure.load(text) if text.endswith(".toml") else zoo[text])


def _load_blocks(files: Any) -> tuple[str, ...]:
    """Each file with what it holds now; see `BlockFile`."""
    from genets.networks import load_blocks

    given = [files] if isinstance(files, str | Path) else files
    return tuple(str(load_blocks(file)) for file in given)


def _parse_block(text: str) -> Block:
    match = _BLOCK.fullmatch(text)
    if match is None:
        raise SettingsError(f"a block is written as XX3, BL3r0.25 or DW5r6, not {shown(text)}")
    kind, kernel, ratio = match.groups()
    return Block(kind, int(kernel), float(ratio or 1))


def _as_target(value: Any) -> Any:
    target = Target.from_json(value) if isinstance(value, Mapping) else value
    # The threads of this machine are part of what a latency means: fix them in the study.
    return target.resolved() if isinstance(target, Target) else target


class SearchSettings(_Model):
    """Everything that decides what a search finds. Raises GenetsError for a wrong value.

    The defaults are for small images and a few minutes on two CPU cores; `presets` has others.

    data: name of a data set, or a folder of images.
    budget: ms or us per image, or times the MasterNet's latency: `0.2ms`, `150us`, `0.5x`.
    master: the MasterNet as a zoo name, a TOML file or a notation; kept as a notation.
    target: what a latency means; the thread count of this machine is filled in.
    trials_per_super_block: perturbed super-blocks tried for each super-block; the blocks of
        the space take turns.
    controls_per_super_block: repeats of the original super-block, re-initialised.
    sampling: which perturbations are tried; `design` chooses those that tell the most, `random`
        leaves it to chance, as the paper does. See `genets.nas.trials.plan`.
    trials: `together` fine-tunes up to four at once, which share batches and what is frozen;
        `separate` each alone, as in the paper. The results are the same.
    metric: the validation score that the regression predicts.
    regression: "paper" is the literal formula of section 4.2.
    selection: "random" samples the space as the paper does.
    confirm: how many candidates are trained to choose the winner by their validation scores; 1
        takes the best predicted as it is. Where `space.resolutions` names some, as many of each
        as share it evenly, rounded up: one of each is trained at least.
    confirm_epochs: how long each of them is trained by the recipe of `final_training`, but not
        longer than the winner; where it is as long, the best needs no further training.
    rounds: how often trials are run, the first time around `master`, then around the best network
        that was confirmed; fewer where no candidate is better than that.
    own_blocks: files that register block types of your own, with the SHA-256 of what they held;
        those of the types that `master` and `space` name are added. See `genets.load_blocks`.
    training_device: where networks are trained, whatever the target; "auto" is CUDA if there is.
    table_seconds: for timing the pieces of a latency table.
    measure_seconds: for measuring one whole network, at most.

    `resolution=PIXELS` may be given beside `master`, to set the input size of the MasterNet.
    """

    data: str = Field(min_length=1)
    budget: str
    master: str = Field("master_small", validate_default=True)
    seed: int = Field(0, ge=0, lt=2**63)
    trials_per_super_block: Positive = 14
    controls_per_super_block: Positive = 2
    metric: Metric = Metric.CROSS_ENTROPY
    regression: Literal["bayes", "paper"] = "bayes"
    selection: Literal["exact", "random"] = "exact"
    sampling: Literal["design", "balanced", "random"] = "design"
    trials: Literal["together", "separate"] = "together"
    confirm: Positive = 4
    confirm_epochs: Positive = 36
    rounds: int = Field(1, ge=1, le=MOST_ROUNDS)
    target: Annotated[InstanceOf[Target], BeforeValidator(_as_target)] = Field(
        default_factory=Target, validate_default=True
    )
    training_device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    space: SpaceSettings = SpaceSettings()
    table_seconds: Seconds = 30.0
    measure_seconds: Seconds = 2.5
    master_training: TrainingSettings = TrainingSettings()
    trial_training: TrialSettings = TrialSettings()
    final_training: TrainingSettings = TrainingSettings()
    own_blocks: tuple[str, ...] = Field((), validate_default=True)  # last: it reads the others

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise _explain(error) from error

    @model_validator(mode="before")
    @classmethod
    def _set_resolution(cls, values: dict[str, Any]) -> dict[str, Any]:
        values = dict(values)
        if values.get("own_blocks"):  # before any notation is read
            values["own_blocks"] = _load_blocks(values["own_blocks"])
        if "response" in values:  # the name before version 0.2
            values.setdefault("metric", values.pop("response"))
        resolution = values.pop("resolution", None)
        if resolution is not None:
            master = Structure.parse(_structure_text(values.get("master", "master_small")))
            values["master"] = str(master.with_resolution(resolution))
        return values

    @field_validator("budget")
    @classmethod
    def _is_a_budget(cls, value: str) -> str:
        Budget.parse(value)
        return value

    @field_validator("data")
    @classmethod
    def _is_found_from_anywhere(cls, value: str) -> str:
        return os.path.abspath(value) if os.path.isdir(value) else value

    @field_validator("own_blocks")
    @classmethod
    def _are_all_named(cls, files: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        """With the files of the types in use: whoever resumes the study must find them again."""
        if not {"master", "space"} <= info.data.keys():
            return files  # they are faulty themselves
        used = [stage.type for stage in Structure.parse(info.data["master"]).stages]
        used += [block.type for block in info.data["space"].design_space().blocks]
        if all(BLOCK_TYPES[name].layers_at is None for name in used):
            return files
        from genets.networks.own_blocks import files_of

        return tuple(dict.fromkeys((*files, *map(str, files_of(used)))))

    _as_notation = field_validator("master", mode="before")(_structure_text)

    @property
    def structure(self) -> Structure:
        """The MasterNet."""
        return Structure.parse(self.master)

    @property
    def resolution(self) -> int:
        """Input pixels along one side."""
        return self.structure.resolution

    def to_dict(self) -> dict[str, Any]:
        """Plain values; what is None is left out."""
        values = self.model_dump(exclude={"target"}) | {"target": self.target.to_json()}
        return {name: _without_none(value) for name, value in values.items()}

    def to_toml(self) -> str:
        return format_toml_tables(self.to_dict())

    @classmethod
    def from_toml(cls, text: str) -> Self:
        """Settings of a study. Raises GenetsError."""
        return cls(**merge(BEFORE, parse_settings(text)))


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: inner for name, inner in value.items() if inner is not None}
    return value


def _explain(error: ValidationError) -> GenetsError:
    """The first fault, as one sentence that names field, value and what is allowed."""
    fault = error.errors()[0]
    cause = fault.get("ctx", {}).get("error")
    if isinstance(cause, GenetsError):
        return cause
    name = ".".join(str(part) for part in fault["loc"])
    if fault["type"] == "extra_forbidden":
        return SettingsError(unknown_name("setting", name, _names(fault["loc"])))
    if fault["type"] == "missing":
        return SettingsError(f"setting {name} must be given")
    rule = fault["msg"].replace("Input should", "must").partition(", unable")[0]
    return SettingsError(f"{name} {rule[0].lower()}{rule[1:]}, not {shown(fault['input'])}")


def _names(location: tuple[int | str, ...]) -> list[str]:
    """The dotted names that are allowed where an unknown one stood."""
    model: type[BaseModel] = SearchSettings
    for part in location[:-1]:
        model = model.model_fields[str(part)].annotation  # type: ignore[assignment]
    prefix = "".join(f"{part}." for part in location[:-1])
    own = ["resolution"] if model is SearchSettings else []
    return [prefix + name for name in (*model.model_fields, *own)]
