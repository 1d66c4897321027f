"""More trials for a study: those that ended stay, and selection begins anew."""

from __future__ import annotations

import json
from pathlib import Path

from genets.core.errors import StudyError
from genets.core.files import write_atomic
from genets.nas.settings.settings import SearchSettings

SETTINGS = "study.toml"
GROWN_FROM = "grown_from.json"  # the numbers of trials that the study had before it got more
# What was concluded from fewer trials; what was trained and measured is kept.
CONCLUDED = ("results/result.json", "winner.safetensors", "selected.json", "candidates.json")


def write_settings(folder: Path, settings: SearchSettings) -> None:
    write_atomic(folder / SETTINGS, settings.to_toml())


def asks_for_more_trials(stored: SearchSettings, asked: SearchSettings) -> bool:
    """Whether more trials for each super-block are all that is asked beyond the study's own."""
    number = asked.trials_per_super_block
    same_number = stored.model_copy(update={"trials_per_super_block": number})
    return stored.trials_per_super_block < number and same_number.to_dict() == asked.to_dict()


def grow(folder: Path, stored: SearchSettings, asked: SearchSettings) -> None:
    """Take in settings with more trials, and take back what was concluded from fewer.

    The settings come last: a study that is killed before that goes on with fewer trials, and
    what was taken back is computed again.
    """
    for name in CONCLUDED:
        (folder / name).unlink(missing_ok=True)
    before = [*read_grown_from(folder, stored), stored.trials_per_super_block]
    write_atomic(folder / GROWN_FROM, json.dumps(before) + "\n")
    write_settings(folder, asked)


def read_grown_from(folder: Path, settings: SearchSettings) -> tuple[int, ...]:
    """The smaller numbers of trials for each super-block that a study had before, ascending.

    Raises StudyError if the file is damaged.
    """
    path = folder / GROWN_FROM
    try:
        before = [int(number) for number in json.loads(path.read_bytes())]
    except FileNotFoundError:
        return ()
    except (ValueError, TypeError) as error:
        raise StudyError(f"{path} is damaged ({error}); put back a copy of it") from error
    return tuple(sorted({n for n in before if 0 < n < settings.trials_per_super_block}))
