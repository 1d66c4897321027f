"""Settings of a search: how MasterNet, trials and winner are trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self, get_type_hints

from pydantic import Field, create_model, model_validator

from genets.core.errors import GenetsError, SettingsError
from genets.core.validation import StrictModel
from genets.latency.target import Target
from genets.training.recipe import (
    AUTO,
    DEFAULTS,
    FIELDS,
    RunRecipe,
    apply_changes,
    describe_fields,
    fitting_warmup,
    full_recipe,
)
from genets.training.variants import AUTO_FIELDS, RATES, middle_rate

RECIPE = "recipe"  # the key of a table that names a recipe
# The epochs of a search follow from the number of images before it begins, so no training of a
# search is lengthened.
SEARCH_FIELDS = tuple(name for name in FIELDS if name != "least_steps")
# The fields of trials that count where trials inherit weights, and the name of a recipe, which sets
# some of them.
USED_BY_INHERITED_TRIALS = (
    RECIPE, "feature_steps", "batch_size", "precision",
    "crop_area", "flip", "colour_jitter", "auto_augment", "erase",
)  # fmt: skip


def recipe_table(name: str, changes: Mapping[str, Any]) -> dict[str, Any]:
    """All fields of a named recipe with changes, as a table of a search has them.

    Raises:
        SettingsError: No recipe has this name.
    """
    fields = full_recipe(name)
    return apply_changes({field: fields[field] for field in SEARCH_FIELDS}, changes)


def _recipe_model(base: type[StrictModel], **defaults: Any) -> Any:
    """Make a model with every field of a recipe.

    Args:
        base: The base class.
        defaults: The defaults that differ from those of `RunRecipe`.
    """
    hints, texts = get_type_hints(RunRecipe, include_extras=True), describe_fields()
    defaults = {**DEFAULTS, **defaults}
    made: dict[str, Any] = {
        name: (hints[name], Field(default=defaults[name], description=texts[name]))
        for name in SEARCH_FIELDS
    }
    return create_model("RecipeFields", __base__=base, __module__=__name__, **made)


_DEFAULTS = {"epochs": 36, "learning_rate": 1.2, "warmup_epochs": 1.0, "label_smoothing": 0.0}
_OF_TRIALS = {**_DEFAULTS, "epochs": 6, "learning_rate": 0.8, "warmup_epochs": 0.5}


class TrainingSettings(_recipe_model(StrictModel, **_DEFAULTS)):  # type: ignore[misc]
    """How one kind of network is trained: every field of `genets.training.RunRecipe`.

    `recipe` may name a recipe, whose fields then replace all defaults; the other given fields
    change it, as `genets train --recipe NAME --set FIELD=VALUE` does.

    Any number of epochs from 1 on is possible: a warm-up that does not fit into the training takes
    half of its epochs, and is stored so.
    """

    other_names: ClassVar = (RECIPE,)

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, values: Any) -> Any:
        """Replace the name of a recipe by its fields, and shorten a warm-up that is too long."""
        if not isinstance(values, Mapping):
            return values
        values = dict(values)
        if RECIPE in values:
            values = cls._expand(values.pop(RECIPE), values)
        names = ("epochs", "warmup_epochs")
        epochs, warmup = (values.get(name, cls.model_fields[name].default) for name in names)
        numbers = all(type(number) in (int, float) for number in (epochs, warmup))
        if numbers and epochs > 0 and (fitting := fitting_warmup(warmup, epochs)) != warmup:
            values["warmup_epochs"] = fitting
        return values

    @classmethod
    def _expand(cls, name: Any, changes: Mapping[str, Any]) -> dict[str, Any]:
        """The fields of a named recipe with changes. Raises SettingsError."""
        return recipe_table(str(name), changes)

    def check(self, table: str) -> None:
        """Raise SettingsError where a search cannot train so. table: the name of these settings."""
        if self.compile:
            raise SettingsError(
                f"{table}.compile must be false, because torch.compile would compile each of the "
                "many networks of a search"
            )
        try:
            self.recipe()
        except GenetsError as error:
            raise SettingsError(f"{table}: {error}") from error

    def recipe(self) -> RunRecipe:
        """Return the recipe. Outside a search, the precision `auto` is fp32."""
        values = {name: getattr(self, name) for name in SEARCH_FIELDS}
        return RunRecipe(**values | {"precision": self.precision.replace("auto", "fp32")})

    def on_device(self, device: str) -> Self:
        """Replace the precision `auto` by the one for the device that trains."""
        if self.precision != "auto":
            return self
        precision = "fp32"
        # Most machines show in /dev whether they have a GPU; the check of a target looks there
        # before it imports PyTorch.
        if not Target(device=device).is_cpu:
            from genets.training.resources import usual_precision

            precision = usual_precision(device)
        decided: Self = self.model_copy(update={"precision": precision})
        return decided


class TrialSettings(_recipe_model(TrainingSettings, **_OF_TRIALS)):  # type: ignore[misc]
    """How a trial is fine-tuned."""

    feature_steps: int = Field(
        default=50,
        gt=0,
        description="Training steps of a super-block with inherited weights, which learns the "
        "feature maps of the MasterNet's own super-block; an epoch is completed. Of the other "
        "fields, only batch_size, precision and the fields of augmentation then count.",
    )
    thaw: Literal["block", "after", "all"] = Field(
        default="after",
        description="The part of the network that a trial trains. `after`: the new super-block "
        "and everything behind it; the part before it is frozen and is computed once for all "
        "trials that are trained together. `block`: the new super-block alone, as in the paper. "
        "`all`: the whole network.",
    )

    @classmethod
    def _expand(cls, name: Any, changes: Mapping[str, Any]) -> dict[str, Any]:
        """The fields that suit a trial.

        A trial has the trained classifier of the MasterNet, so it needs no linear start. It is a
        short training itself, so fields that are `auto` get a usual value.
        """
        fields: dict[str, Any] = super()._expand(name, {"linear_start": False, **changes})
        usual: dict[str, Any] = {"norm_statistics": "batch"}
        if fields["optimizer"] in RATES:  # otherwise the optimizer is refused
            usual["learning_rate"] = middle_rate(fields["optimizer"])
        for field, value in usual.items():
            if fields[field] == AUTO and field not in changes:
                fields[field] = value
        return fields

    def check(self, table: str) -> None:
        super().check(table)
        for name in AUTO_FIELDS:
            if getattr(self, name) == AUTO:
                raise SettingsError(
                    f"{table}.{name} must not be auto, because a trial is a short training itself"
                )
        if self.linear_start:
            raise SettingsError(
                f"{table}.linear_start must be false, because a trial starts with the trained "
                "classifier of the MasterNet"
            )
