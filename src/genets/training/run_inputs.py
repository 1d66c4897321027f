"""The images of a run, and what becomes of those that cannot be read."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from genets.core.errors import DataError
from genets.core.files import write_atomic
from genets.data import LOADERS, ImageData, broken_files, load_data
from genets.training.distributed import Processes
from genets.training.run_recipe import RunRecipe
from genets.training.run_settings import RunSettings


def load_images(
    settings: RunSettings, processes: Processes, workers: int | None, note: Callable[[str], None]
) -> ImageData:
    """The share of this process; none are checked yet. Raises DataError."""
    assert settings.resolution is not None
    options: dict[str, Any] = {}
    if settings.data in LOADERS:  # they draw their images, and augment them while they do
        _tell_what_is_not_used(settings.recipe, settings.data, note)
    else:
        options["augmentation"] = settings.recipe.augmentation()
    return load_data(
        settings.data,
        settings.resolution,
        seed=settings.seed,
        device=processes.device,
        workers=workers,
        check=False,
        share=processes.share,
        **options,
    )


@contextmanager
def keep_broken(
    data: ImageData, path: Path, processes: Processes, say: Callable[[str], None]
) -> Iterator[None]:
    """From now on name each image that cannot be read: to the user, and in a line of `path`.

    Those that an earlier process met are looked at again. Raises DataError: too many; all that
    are known then are in `path`.
    """
    broken = data.broken
    if broken is None:
        yield
        return
    before = [json.loads(line)["image"] for line in _lines(path)]
    processes.gather(None)  # all have read it

    def tell(name: str, reason: str) -> None:
        if processes.is_first:
            say(f"image {name} cannot be read ({reason}) and is skipped")
            with open(path, "a", encoding="utf-8") as file:
                file.write(_line(name, reason))

    broken.tell = tell
    if processes.is_first and before:
        write_atomic(path, "")
    try:
        broken.meet(broken_files([name for name in before if Path(name).is_absolute()]))
        yield
    except DataError:
        if processes.is_first and broken.reasons:
            write_atomic(path, "".join(_line(*one) for one in broken.reasons.items()))
            say(f"{len(broken.reasons)} images that cannot be read are named in {path}")
        raise


def check_all(data: ImageData, processes: Processes, note: Callable[[str], None]) -> None:
    """Read every image once, each process its share. Raises DataError: too many are broken."""
    if data.broken is None or not data.broken.paths:
        note(f"{data.name} is no folder of images: they are checked when they are read")
        return
    for found in processes.gather(data.broken.scan(processes.share)):
        data.broken.meet(found)


def _line(name: str, reason: str) -> str:
    return json.dumps({"image": name, "reason": reason}) + "\n"


def _lines(path: Path) -> list[str]:
    """Whole lines: a process that was killed may have left a part of one."""
    if not path.exists():
        return []
    return [
        line for line in path.read_text(encoding="utf-8").splitlines(True) if line.endswith("\n")
    ]


def _tell_what_is_not_used(recipe: RunRecipe, data: str, note: Callable[[str], None]) -> None:
    unused = [name for name in ("auto_augment", "erase") if getattr(recipe, name)]
    if unused:
        note(f"{data} has nuisance of its own: {' and '.join(unused)} are not used")
