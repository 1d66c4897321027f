"""The files and folders that a data set leaves out, counted by reason."""

from __future__ import annotations

from dataclasses import dataclass

from genets.core.errors import counted, printable
from genets.data.image_file import extension_of

SHOWN = 5  # names for each reason


@dataclass(frozen=True)
class Reason:
    """A reason to leave something out, as a noun for the files."""

    singular: str
    plural: str


HIDDEN = Reason("hidden or system file or folder", "hidden or system files or folders")
ONLY_FOLDERS = Reason("folder that holds only folders", "folders that hold only folders")
BESIDE_SPLITS = Reason("folder beside the split folders", "folders beside the split folders")
BESIDE_CLASSES = Reason("image beside the class folders", "images beside the class folders")
RESULTS = Reason("folder with results of genets", "folders with results of genets")
LOOP = Reason("link that leads back to a folder above", "links that lead back to a folder above")
REPEATED = Reason("link to images that are read already", "links to images that are read already")
DANGLING = Reason("link to nothing", "links to nothing")
SPECIAL = Reason("special file, such as a pipe", "special files, such as pipes")
NO_EXTENSION = Reason("file without an extension", "files without an extension")


def file_reason(name: str) -> Reason:
    """The reason for a file that is no image: its extension."""
    extension = printable(extension_of(name))
    return Reason(f"file {extension}", f"files {extension}") if extension else NO_EXTENSION


class LeftOut:
    """Counts the files and folders that are left out of a folder, and keeps a few names.

    Attributes:
        counts: the number for each reason.
    """

    def __init__(self) -> None:
        self.counts: dict[Reason, int] = {}
        self._names: dict[Reason, list[str]] = {}

    def add(self, reason: Reason, name: str) -> None:
        """Count a file or a folder; `name` is its path below the folder of the data set."""
        self.counts[reason] = self.counts.get(reason, 0) + 1
        names = self._names.setdefault(reason, [])
        if len(names) < SHOWN:
            names.append(printable(name))

    def __bool__(self) -> bool:
        return bool(self.counts)

    def __str__(self) -> str:
        """Such as `2 files .heic (cat/1.heic, cat/2.heic); 1 link to nothing (dog)`."""
        return "; ".join(
            f"{counted(count, reason.singular, reason.plural)} ({self._shown(reason)})"
            for reason, count in sorted(self.counts.items(), key=lambda item: -item[1])
        )

    def _shown(self, reason: Reason) -> str:
        more = ", ..." if self.counts[reason] > SHOWN else ""
        return ", ".join(self._names[reason]) + more
