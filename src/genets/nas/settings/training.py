"""Settings of a search: how MasterNet, trials and winner are trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from genets.core.validation import StrictModel
from genets.latency.target import Target

if TYPE_CHECKING:
    from genets.training import Recipe

Epochs = Annotated[int, Field(gt=0, description="Number of passes over the training images.")]
LearningRate = Annotated[
    float,
    Field(
        gt=0,
        description="Peak learning rate for a batch of 256 images; the rate used is proportional "
        "to the batch size.",
    ),
]
WarmupEpochs = Annotated[
    float,
    Field(
        ge=0,
        description="Epochs during which the learning rate rises linearly. Where the training has "
        "no more epochs than that, the rise takes half of the training.",
    ),
]


class TrainingSettings(StrictModel):
    """How one kind of network is trained; `genets.training.Recipe` has the other fields.

    Any number of epochs from 1 on is possible: a warm-up that does not fit into the training takes
    half of its epochs, and is stored so.
    """

    epochs: Epochs = 36
    batch_size: int = Field(default=64, gt=0, description="Number of images in a training step.")
    learning_rate: LearningRate = 1.2
    warmup_epochs: WarmupEpochs = 1.0
    label_smoothing: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="Share of the true label that is spread over all classes.",
    )
    class_weights: Literal["none", "balanced"] = Field(
        default="none",
        description="How much an image counts in the loss with the true labels. `none`: all images "
        "count the same. `balanced`: all classes count the same, whatever their numbers of images.",
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        default="auto",
        description="Number format of the training; bf16 uses autocast. A search replaces `auto` "
        "when it begins: bf16 where all its GPUs compute in it, otherwise fp32.",
    )

    @model_validator(mode="before")
    @classmethod
    def _shorten_warmup(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        names = ("epochs", "warmup_epochs")
        epochs, warmup = (values.get(name, cls.model_fields[name].default) for name in names)
        numbers = all(type(number) in (int, float) for number in (epochs, warmup))
        if numbers and warmup >= epochs > 0:
            return {**values, "warmup_epochs": epochs / 2}
        return values

    def recipe(self) -> Recipe:
        """Return the recipe with these values and the defaults of all other fields.

        Outside a search, the precision `auto` is fp32.
        """
        from genets.training import Recipe

        values = {field: getattr(self, field) for field in TrainingSettings.model_fields}
        return Recipe(**values | {"precision": self.precision.replace("auto", "fp32")})

    def on_device(self, device: str) -> Self:
        """Replace the precision `auto` by the one for the device that trains."""
        if self.precision != "auto":
            return self
        # Most machines show in /dev whether they have a GPU; the check of a target looks there
        # before it imports PyTorch.
        if Target(device=device).is_cpu:
            return self.model_copy(update={"precision": "fp32"})
        from genets.training.resources import usual_precision

        return self.model_copy(update={"precision": usual_precision(device)})


class TrialSettings(TrainingSettings):
    """How a trial is fine-tuned."""

    epochs: Epochs = 6
    learning_rate: LearningRate = 0.8
    warmup_epochs: WarmupEpochs = 0.5
    feature_steps: int = Field(
        default=100,
        gt=0,
        description="Training steps of a super-block with inherited weights, which learns the "
        "feature maps of the MasterNet's own super-block; an epoch is completed. Of the other "
        "fields, only batch_size and precision then count.",
    )
    thaw: Literal["block", "after", "all"] = Field(
        default="after",
        description="The part of the network that a trial trains. `after`: the new super-block "
        "and everything behind it; the part before it is frozen and is computed once for all "
        "trials that are trained together. `block`: the new super-block alone, as in the paper. "
        "`all`: the whole network.",
    )
