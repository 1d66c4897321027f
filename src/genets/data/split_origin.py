"""Whether the splits of a data set are those that some weights were trained with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from genets.core.image_facts import ImageOrigin
from genets.data.split import ImageData


@dataclass(frozen=True, slots=True)
class SplitOrigin:
    """Where the cut between training and validation images comes from.

    Attributes:
        source: "data set": the data set has a validation split. "training": the cut is that of
            the training. "seed": the cut is that of the seed, and the network is not trained.
            "unknown": images of every split may have been trained on.
        remark: A sentence that says why the split of the training is unknown; else empty.
    """

    source: Literal["data set", "training", "seed", "unknown"]
    remark: str = ""


def find_split_origin(data: ImageData, origin: ImageOrigin | None, trained: bool) -> SplitOrigin:
    """Compare the cut of a data set with that of a training.

    Args:
        data: The data set.
        origin: The images of the training; None where they are not known.
        trained: Whether the network has trained weights at all.
    """
    if not data.seeded_validation:
        return SplitOrigin("data set")
    if not trained:
        return SplitOrigin("seed")
    if origin is None:
        remark = f"The weights do not say on which images of {data.name} they were trained."
    elif not origin.is_same_data(data.origin):
        has_changed = origin.data == data.name
        remark = (
            f"The images of {data.name} have changed since the training."
            if has_changed
            else f"The weights were trained on {origin.data}, not on {data.name}."
        )
    elif origin.seed != data.seed:
        remark = (
            f"The weights were trained with the split of seed {origin.seed}, and this is the split "
            f"of seed {data.seed}."
        )
    else:
        return SplitOrigin("training")
    return SplitOrigin("unknown", remark)
