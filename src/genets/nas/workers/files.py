"""Files of a study for a worker that does not see the study folder; they travel as bytes.

A worker has a scratch folder, in which each file has its absolute path on the machine of the
driver. So the driver knows the place of a file that comes back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from genets.core.errors import GenetsError

ROOT = Path("/")


def scratch_path(scratch: Path, path: Path) -> Path:
    """Give the place in a scratch folder of a file or folder of the driver."""
    return scratch / path.absolute().relative_to(ROOT)


def read_files(paths: Iterable[Path]) -> dict[Path, bytes]:
    """Read files. Raises GenetsError."""
    contents = {}
    for path in paths:
        try:
            contents[path.absolute()] = path.read_bytes()
        except OSError as error:
            raise GenetsError(f"cannot read {str(path)!r}: {error.strerror}") from error
    return contents


def write_inputs(scratch: Path, contents: Mapping[Path, bytes]) -> set[Path]:
    """Write the files of a job to a scratch folder, and give their places there."""
    written = set()
    for path, content in contents.items():
        place = scratch_path(scratch, path)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
        written.add(place)
    return written


def take_outputs(scratch: Path, inputs: set[Path]) -> dict[Path, bytes]:
    """Read and remove the files that a runner wrote to a scratch folder, by the driver's path."""
    outputs = {}
    for place in sorted(scratch.rglob("*")):
        if place.is_file() and place not in inputs:
            outputs[ROOT / place.relative_to(scratch)] = place.read_bytes()
            place.unlink()
    return outputs
