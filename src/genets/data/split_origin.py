"""Whether the splits of a data set are those that some weights were trained with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from genets.core.image_facts import ImageOrigin
from genets.data.split import ImageData


@dataclass(frozen=True, slots=True)
class SplitOrigin:
    """Where the cut between training images and others comes from.

    Attributes:
        source: "data set": the data set has these splits. "training": the cut is that of the
            training. "seed": the cut is that of the seed, and the network is not trained.
            "unknown": images of every split may have been trained on.
        remark: A sentence that says why the split of the training is unknown; else empty.
        has_changed: Whether it is unknown because images of the data set have changed.
    """

    source: Literal["data set", "training", "seed", "unknown"]
    remark: str = ""
    has_changed: bool = False


def find_split_origin(data: ImageData, origin: ImageOrigin | None, trained: bool) -> SplitOrigin:
    """Compare the cut of a data set with that of a training.

    Args:
        data: The data set.
        origin: The images of the training; None where they are not known.
        trained: Whether the network has trained weights at all.
    """
    if not data.cut_splits:
        return SplitOrigin("data set")
    if not trained:
        return SplitOrigin("seed")
    if origin is None:
        remark = f"The weights do not say on which images of {data.name} they were trained."
        return SplitOrigin("unknown", remark)
    if not origin.is_same_data(data.origin):
        if origin.data == data.origin.data:
            remark = f"The images of {data.name} have changed since the training."
            return SplitOrigin("unknown", remark, has_changed=True)
        remark = f"The weights were trained on {origin.data}, not on {data.name}."
        return SplitOrigin("unknown", remark)
    # The test split is the same for every seed.
    if "validation" in data.cut_splits and origin.seed != data.seed:
        remark = (
            f"The weights were trained with the split of seed {origin.seed}, and this is the split "
            f"of seed {data.seed}."
        )
        return SplitOrigin("unknown", remark)
    return SplitOrigin("training")
