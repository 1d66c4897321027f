"""The images of a study, as a continued search and a worker on another machine recognise them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from genets.core.errors import DataError
from genets.core.files import normal_name
from genets.core.resumable import differences
from genets.data import SPLITS, ImageData


@dataclass(frozen=True)
class StudyImages:
    """Facts about the images of a study.

    Attributes:
        class_names: The names of the classes.
        train, validation, test: The number of images of each split.
        files: `ImageData.fingerprint`: a digest of the names and sizes of the files.
    """

    class_names: tuple[str, ...]
    train: int
    validation: int
    test: int
    files: str

    @classmethod
    def of(cls, data: ImageData) -> Self:
        train, validation, test = map(len, (data.train, data.validation, data.test))
        return cls(data.class_names, train, validation, test, data.fingerprint)

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        """Read the record of the images in a study; see `layout.DATA`."""
        # An older genets stored names as the file system had them.
        names = tuple(map(normal_name, record["class_names"]))
        return cls(names, *(record[name] for name in (*SPLITS, "files")))

    def to_record(self) -> dict[str, Any]:
        """Give the record that `from_record` reads."""
        return asdict(self)

    def changes(
        self, other: StudyImages, *, now: str = "now", left_out: Iterable[str] = ()
    ) -> list[str]:
        """Describe the differences from other images, such as `train: 80 in the study, 90 now`.

        Args:
            other: The images that were loaded.
            now: The word for them.
            left_out: Facts that are not compared.
        """
        stored, loaded = asdict(self), asdict(other)
        for name in left_out:
            del stored[name], loaded[name]
        return differences(stored, loaded, "study", now=now)

    def check(self, data: ImageData, *, in_fold: bool) -> None:
        """Raise DataError where other images were loaded than those of the study.

        in_fold: Whether a fold was loaded, whose training and validation split are its own.
        """
        own_splits = ("train", "validation") if in_fold else ()
        changes = self.changes(StudyImages.of(data), now="here", left_out=own_splits)
        if changes:
            raise DataError(
                f"the images in {data.name} are not those of the study ({'; '.join(changes)}); "
                "every machine needs the same images"
            )
