"""Files of a study for a worker that does not see the study folder; they travel as bytes.

A worker has a scratch folder, in which each file has its real path on the machine of the driver.
So the driver knows the place of a file that comes back. Only the driver can find a real path,
because it depends on the current folder and on symbolic links.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from genets.core.errors import GenetsError

ROOT = Path("/")


def scratch_path(scratch: Path, path: Path) -> Path:
    """Give the place in a scratch folder of a file or folder of the driver.

    Args:
        scratch: The scratch folder; `ROOT` stands for the driver itself, and gives the real path.
        path: A real path of the driver; where `scratch` is `ROOT`, any path.
    """
    return path.resolve() if scratch == ROOT else scratch / path.relative_to(ROOT)


def read_files(paths: Iterable[Path]) -> dict[Path, bytes]:
    """Read files of the driver, and give their contents by their real paths. Raises GenetsError."""
    contents = {}
    for path in paths:
        try:
            contents[scratch_path(ROOT, path)] = path.read_bytes()
        except OSError as error:
            raise GenetsError(f"cannot read {str(path)!r}: {error.strerror}") from error
    return contents


def write_inputs(scratch: Path, contents: Mapping[Path, bytes]) -> set[Path]:
    """Write the files of a job to a scratch folder, and give their places there.

    Raises GenetsError where the disk is full.
    """
    written = set()
    try:
        for path, content in contents.items():
            place = scratch_path(scratch, path)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
            written.add(place)
    except OSError as error:
        raise GenetsError(f"cannot write files to {scratch}: {error.strerror}") from error
    return written


def take_outputs(scratch: Path, inputs: set[Path]) -> dict[Path, bytes]:
    """Read and remove the files that a runner wrote to a scratch folder, by the driver's path."""
    outputs = {}
    for place in sorted(scratch.rglob("*")):
        if place.is_file() and place not in inputs:
            outputs[ROOT / place.relative_to(scratch)] = place.read_bytes()
            place.unlink()
    return outputs
