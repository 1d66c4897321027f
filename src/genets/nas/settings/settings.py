"""The settings of a search: one frozen value, checked when it is made, stored in `study.toml`."""

from __future__ import annotations

import os
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    BeforeValidator,
    Field,
    InstanceOf,
    ValidationInfo,
    field_validator,
    model_validator,
)

from genets.core.data_name import make_data_absolute
from genets.core.errors import SettingsError, check_path_text
from genets.core.image_facts import MAX_BROKEN_SHARE
from genets.core.validation import SettingsModel
from genets.latency.budget import Budget
from genets.latency.target import Target
from genets.nas.settings.defaults import OLDER_STUDY_DEFAULTS, choose_defaults
from genets.nas.settings.inputs import (
    own_types,
    read_block_files,
    read_budgets,
    read_structure,
    read_target,
    take_results_folder,
)
from genets.nas.settings.rival_names import read_rivals
from genets.nas.settings.space import SpaceSettings
from genets.nas.settings.toml_tables import format_toml_tables, merge, parse_settings
from genets.nas.settings.training import TrainingSettings, TrialSettings
from genets.structure import Structure
from genets.training.score import Metric

MAX_ROUNDS = 10  # each round costs as many trials as the first
MAX_FOLDS = 20  # every training of trials and candidates is repeated in each fold


class SearchSettings(SettingsModel):
    """Everything that decides the result of a search.

    The defaults are for small images and a few minutes on two CPU cores;
    `genets.nas.settings.presets` has others. `resolution=PIXELS` may be given beside `master`: it
    sets the input size of the MasterNet.

    Raises:
        GenetsError: A setting is unknown, missing or wrong.
    """

    other_names: ClassVar = ("resolution",)

    data: str = Field(
        min_length=1,
        description="Data set: digits, a folder of images, or timm's name of a data set, such as "
        "torch/cifar10, which is downloaded.",
    )
    max_broken_share: float = Field(
        default=MAX_BROKEN_SHARE,
        ge=0,
        le=1,
        description="Largest share of images that may be broken, 0 to 1. One broken image is no "
        "error unless the share is 0.",
    )
    budget: str | None = Field(
        default=None,
        description="Largest latency: ms or us per image, or a factor of the MasterNet's latency, "
        "such as 0.2ms, 150us, 0.5x. A new study needs this setting or `budgets`.",
    )
    budgets: tuple[str, ...] = Field(
        default=(),
        validate_default=True,
        description="Several budgets in place of `budget`, such as 0.8x,0.5x,0.3x. One search "
        "exports a trained network for each budget; latency table, MasterNet and trials are "
        "shared.",
    )
    master: str = Field(
        default="master_small",
        validate_default=True,
        description="The MasterNet, from which the search starts: a zoo name, a structure file "
        "(.toml), a quoted notation, or a results folder, whose weights are its starting weights.",
    )
    pretrained: bool = Field(
        default=False,
        description="Start the MasterNet from its published ImageNet weights, and fine-tune it.",
    )
    weights: str = Field(
        default="",
        description="File of weights from which the MasterNet starts. The classifier is new where "
        "the weights are for other classes.",
    )
    normalisation: Literal["weights", "data"] = Field(
        default="weights",
        description="Mean and deviation of the images. `weights`: use the values of the starting "
        "weights, if the values are known. `data`: use the values of the data set.",
    )
    from_scratch: bool = Field(
        default=False,
        description="Train new super-blocks and candidates from fresh weights. Otherwise they "
        "inherit weights: trials from the MasterNet, and candidates from trials and MasterNet.",
    )
    seed: int = Field(default=0, ge=0, lt=2**63, description="Random seed of the whole search.")
    trials_per_super_block: int = Field(
        default=5,  # with the default space; `_choose_defaults` counts the blocks of another one
        gt=0,
        description="Number of trials for each super-block, control trials not counted; the "
        "blocks of the search space take turns.",
    )
    controls_per_super_block: int = Field(
        default=1,
        gt=0,
        description="Number of control trials for each super-block. A control trial trains the "
        "super-block of the MasterNet itself, from the same kind of weights as the other trials, "
        "fresh or inherited.",
    )
    metric: Metric = Field(
        default=Metric.CROSS_ENTROPY,
        description="Validation score that the search predicts and by which it chooses the winner.",
    )
    regression: Literal["bayes", "paper"] = Field(
        default="bayes",
        description="How accuracy is predicted from trials. `bayes`: a Bayesian linear model. "
        "`paper`: the literal formula of section 4.2 of the paper.",
    )
    selection: Literal["exact", "random"] = Field(
        default="exact",
        description="How the best structures are found. `exact`: a dynamic programme over the "
        "whole space. `random`: random sampling, as in the paper.",
    )
    sampling: Literal["design", "balanced", "random"] = Field(
        default="design",
        description="How trials are chosen (see `genets.nas.trials.plan`). `design`: the most "
        "informative trials. `balanced`: blocks, depths and widths take turns in random pairs. "
        "`random`: by chance, as in the paper.",
    )
    trials: Literal["together", "separate"] = Field(
        default="together",
        description="How trials are trained; the results are the same. `together`: up to four at "
        "once, and on a GPU up to 16, which share batches and everything that is frozen. "
        "`separate`: each alone, as in the paper.",
    )
    confirm: int = Field(
        default=2,
        gt=0,
        description="Number of candidates to train; the candidate with the best validation score "
        "is the winner. With 1, the network with the best prediction wins without this step. With "
        "several resolutions, each one gets an equal share of the candidates, rounded up.",
    )
    confirm_epochs: int = Field(
        default=36,
        gt=0,
        description="Number of epochs for each candidate, with the recipe of the winner. A number "
        "above the epochs of the winner has no effect. If both numbers are equal, the winner needs "
        "no further training.",
    )
    screen: int = Field(
        default=32,
        ge=0,
        description="Number of structures to screen for each budget: they are assembled as "
        "candidates are, and trained for a short time, before candidates are selected.",
    )
    screen_steps: int = Field(
        default=32,
        gt=0,
        description="Least number of training steps of each screened structure, with the recipe of "
        "the winner. An epoch is completed, and no training is longer than that of a candidate.",
    )
    trial_weights_mb: int = Field(
        default=2000,
        ge=0,
        description="Most megabytes of disk for the weights of the trials of a round, which "
        "candidates inherit. The oldest weights are dropped first; a trial whose weights a "
        "screened structure or a candidate needs is run again, and the weights of such a trial "
        "may exceed the limit.",
    )
    rounds: int = Field(
        default=1,
        ge=1,
        le=MAX_ROUNDS,
        description="Number of rounds of trials. Each round after the first moves the MasterNet "
        "to the best trained candidate; the search stops early if no candidate is better.",
    )
    folds: int = Field(
        default=0,
        ge=0,
        le=MAX_FOLDS,
        description="Number of folds of the training images in which trials and candidates are "
        "cross-validated; 1 scores them on the validation images alone. 0 decides when the study "
        "begins: 5 for fewer than 200 validation images, otherwise 1.",
    )
    target: Annotated[InstanceOf[Target], BeforeValidator(read_target)] = Field(
        default_factory=Target,
        validate_default=True,
        description="The target of all latencies; the number of threads of this machine is added.",
    )
    training_device: str = Field(
        default="auto",
        pattern=r"^(auto|cpu|cuda(:\d+)?)$",
        description="Device that trains networks, whatever the target is: cpu, cuda, cuda:NUMBER, "
        "or auto, which is CUDA if this machine has it.",
    )
    space: SpaceSettings = Field(default=SpaceSettings(), description="Search space.")
    table_seconds: float = Field(
        default=30.0, gt=0, description="Seconds for timing the pieces of a latency table."
    )
    measure_seconds: float = Field(
        default=2.5, gt=0, description="Largest number of seconds for measuring one whole network."
    )
    master_training: TrainingSettings = Field(
        default=TrainingSettings(), validate_default=True, description="Training of the MasterNet."
    )
    trial_training: TrialSettings = Field(
        default=TrialSettings(),
        validate_default=True,
        description="Training of each trial. A trial that inherits weights uses few of the fields.",
    )
    final_training: TrainingSettings = Field(
        default=TrainingSettings(), validate_default=True, description="Training of the winner."
    )
    rivals: tuple[str, ...] = Field(
        default=(),
        description="Published networks to show beside the winner, such as timm:resnet18. Each is "
        "measured, and trained as long as the winner if it meets the budget. NETWORK=FILE takes a "
        "file of weights, and NETWORK=scratch fresh weights. `default`: a few small networks, "
        "whose published weights are downloaded unless this machine has them.",
    )
    own_blocks: tuple[str, ...] = Field(
        default=(),
        validate_default=True,
        description="Files that register block types of your own, each with the SHA-256 of its "
        "content. The files of all types that `master` and `space` use are added. See "
        "`genets.load_blocks`.",
    )  # the last field, because its validator reads the others

    @model_validator(mode="before")
    @classmethod
    def _prepare(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Register own blocks before a notation is read; accept old names and `resolution`."""
        values = dict(values)
        if values.get("own_blocks"):
            values["own_blocks"] = read_block_files(values["own_blocks"])
        if "response" in values:  # the name before version 0.2
            metric = values.pop("response")
            if values.setdefault("metric", metric) != metric:
                raise SettingsError("give metric or response, its old name, not both")
        if values.get("budgets") and values.get("budget") is None:
            budgets = read_budgets(values["budgets"])
            if len(budgets) == 1:  # a study of one budget, whichever setting gave the budget
                values |= {"budget": budgets[0], "budgets": ()}
        take_results_folder(values)
        resolution = values.pop("resolution", None)
        if resolution is not None:
            master = Structure.parse(read_structure(values.get("master", "master_small")))
            values["master"] = str(master.with_resolution(resolution))
        return values

    @field_validator("budget", mode="before")
    @classmethod
    def _check_budget(cls, value: Any) -> Any:
        """Before pydantic, whose message for a number would not show the form of a budget."""
        if value is not None:
            Budget.parse(value)
        return value

    @field_validator("budgets", mode="before")
    @classmethod
    def _check_budgets(cls, value: Any, info: ValidationInfo) -> Any:
        """Read several budgets, and check that either one budget or several are given."""
        if "budget" not in info.data:
            return ()  # the budget is wrong, and that error is reported
        budget = info.data["budget"]
        if value in ((), None):
            if budget is None:
                raise SettingsError("setting budget must be given, or several budgets as budgets")
            return ()
        if budget is not None:
            raise SettingsError("give budget or budgets, not both")
        return read_budgets(value)

    @field_validator("rivals", mode="before")
    @classmethod
    def _check_rivals(cls, value: Any) -> tuple[str, ...]:
        return read_rivals(value)

    @model_validator(mode="after")
    def _choose_defaults(self) -> Self:
        for name, value in choose_defaults(self).items():
            object.__setattr__(self, name, value)  # the model is frozen
        return self

    @model_validator(mode="after")
    def _check_screen(self) -> Self:
        if self.screen and self.from_scratch:
            raise SettingsError(
                f"screen must be 0 with from_scratch, not {self.screen}, because a short training "
                "from fresh weights does not show which structure is good; leave screen out, or "
                "give --no-from-scratch"
            )
        if self.screen and self.regression == "paper":
            raise SettingsError(
                f"screen must be 0 with the regression paper, not {self.screen}, because the "
                "formula of the paper does not learn from trained structures"
            )
        return self

    @model_validator(mode="after")
    def _check_rounds(self) -> Self:
        if self.budgets and self.rounds > 1:
            raise SettingsError(
                f"rounds must be 1 with several budgets, not {self.rounds}, because each budget "
                "would need trials of its own after the first round"
            )
        if self.num_folds > 1 and self.rounds > 1:
            raise SettingsError(
                f"rounds must be 1 with {self.folds} folds, not {self.rounds}, because the "
                "MasterNet of a later round is a candidate, and candidates are trained in folds "
                "only"
            )
        return self

    @field_validator("master_training", "trial_training", "final_training")
    @classmethod
    def _check_training(cls, value: TrainingSettings, info: ValidationInfo) -> TrainingSettings:
        """Check a training, and record its precision, which stays on another machine."""
        value.check(str(info.field_name))
        device = info.data.get("training_device")
        return value if device is None else value.on_device(device)

    @field_validator("data")
    @classmethod
    def _make_absolute(cls, value: str) -> str:
        """Make a folder absolute, so that the study can be resumed from another folder."""
        path = make_data_absolute(value)
        check_path_text("data", path)
        return path

    @field_validator("own_blocks")
    @classmethod
    def _add_block_files(cls, files: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        """Add the files of the types in use, so that the study can be resumed without options."""
        if not {"master", "space"} <= info.data.keys():
            return files  # master or space is wrong, and that error is reported
        own = own_types(Structure.parse(info.data["master"]), info.data["space"])
        if not own:
            return files
        from genets.networks.own_blocks import find_block_files

        return tuple(dict.fromkeys((*files, *map(str, find_block_files(own)))))

    @field_validator("weights")
    @classmethod
    def _check_weights(cls, value: str, info: ValidationInfo) -> str:
        """Make the path absolute, so that the study can be resumed from another folder."""
        if value and info.data.get("pretrained"):
            raise SettingsError("give pretrained or weights, not both")
        return os.path.abspath(os.path.expanduser(value)) if value else ""

    _as_notation = field_validator("master", mode="before")(read_structure)

    @property
    def all_budgets(self) -> tuple[str, ...]:
        """The one budget or the several budgets, as they were given."""
        return self.budgets if self.budget is None else (self.budget,)

    @property
    def num_folds(self) -> int:
        """The number of folds for cross-validation; 1 where there is none."""
        return self.folds or 1

    @property
    def has_starting_weights(self) -> bool:
        """Whether the MasterNet starts from trained weights."""
        return self.pretrained or bool(self.weights)

    @property
    def has_own_types(self) -> bool:
        """Whether the MasterNet or the search space has block types of the user's own."""
        return bool(own_types(self.structure, self.space))

    @property
    def structure(self) -> Structure:
        """The MasterNet."""
        return Structure.parse(self.master)

    @property
    def resolution(self) -> int:
        """Input size of the MasterNet: pixels along one side."""
        return self.structure.resolution

    def to_dict(self) -> dict[str, Any]:
        """Return plain values without those that are None, and the budget or the budgets."""
        unused = {"target", "budget" if self.budgets else "budgets"}
        values = self.model_dump(exclude=unused) | {"target": self.target.to_json()}
        return {name: _without_none(value) for name, value in values.items()}

    def to_toml(self) -> str:
        """Return the text of a settings file; `from_toml` reads it without loss."""
        return format_toml_tables(self.to_dict())

    @classmethod
    def from_toml(cls, text: str) -> Self:
        """Read the settings of a study. Raises GenetsError."""
        return cls(**merge(OLDER_STUDY_DEFAULTS, parse_settings(text)))


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: inner for name, inner in value.items() if inner is not None}
    return value
