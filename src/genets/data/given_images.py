"""Images without classes: the files and folders that a user names."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from genets.core.errors import DataError, counted, printable
from genets.core.image_facts import Preprocessing
from genets.data.folder import ImageFiles
from genets.data.folder_scan import FolderScan
from genets.data.image_reader import ImageReader, collate
from genets.data.pixels import normalised
from genets.data.scoring import make_transform
from genets.data.split import slices


def find_images(places: Sequence[Path], note: Callable[[str], None] = lambda _: None) -> list[str]:
    """List image files, and the image files below folders, each once and in a fixed order.

    Args:
        places: Files, whatever their extension, and folders.
        note: Called with a sentence for each folder that holds files that are left out.

    Raises:
        DataError: A place does not exist or is no file, or a folder holds no image.
    """
    files: dict[str, None] = {}
    for place in places:
        if not place.exists():
            raise DataError(f"image file or folder {str(place)!r} does not exist")
        if not (place.is_dir() or place.is_file()):  # to read a pipe would wait for ever
            raise DataError(f"{str(place)!r} is not an image file")
        below = _images_below(place, note) if place.is_dir() else [str(place)]
        files |= dict.fromkeys(below)
    return list(files)


def _images_below(folder: Path, note: Callable[[str], None]) -> list[str]:
    scan = FolderScan(folder)
    files = [scan.path(image.name) for image in scan.find_images("")]
    left_out = f"; left out: {scan.left_out}" if scan.left_out else ""
    if not files:
        raise DataError(f"folder {str(folder)!r} holds no image{left_out}")
    if left_out:
        note(f"{printable(str(folder))}: {counted(len(files), 'image')}{left_out}")
    return files


@dataclass
class GivenImages:
    """Image files as inputs of a network.

    Attributes:
        files: The files.
        preprocessing: The preprocessing that the network was trained for.
        resolution: Pixels along one side of the input.
        unreadable: The reason for each file that could not be read so far.
    """

    files: Sequence[str]
    preprocessing: Preprocessing
    resolution: int
    unreadable: dict[str, str] = field(default_factory=dict)

    def batches(self, batch_size: int) -> Iterator[tuple[list[str], Tensor]]:
        """Yield the readable files of each batch and their inputs (N, 3, H, W)."""
        transform = make_transform(self.preprocessing, self.resolution)
        images = ImageFiles(self.files, [0] * len(self.files))
        reader = ImageReader(images, "given", range(len(self.files)), None, transform)
        for part in slices(len(self.files), batch_size, drop_last=False):
            positions = range(len(self.files))[part]
            batch, broken = collate(reader.__getitems__([(place, None) for place in positions]))
            self.unreadable |= broken
            if batch is not None:
                names = [name for name in self.files[part] if name not in broken]
                yield names, normalised(batch[0], self.preprocessing)
