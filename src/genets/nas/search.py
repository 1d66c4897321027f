"""A search as one call: settings as keywords, over those of a preset or of the study."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from genets.nas import run
from genets.nas.context import OnEvent
from genets.nas.settings.presets import settings_at
from genets.nas.settings.settings import SearchSettings
from genets.nas.study.records import SearchResult


def search(
    *,
    out: str | Path,
    preset: str | None = None,
    workers: int | None = None,
    on_event: OnEvent | None = None,
    **settings: Any,
) -> SearchResult:
    """Find, train, measure and hand over the best network within the budget.

    out: the study's folder. One that was interrupted goes on, and needs no further settings.
    preset: a name of `presets.PRESETS`, whose settings stand under the given ones.
    workers: processes for trials; None means one for each core, or for each GPU.
    settings: fields of `SearchSettings`: `data` and `budget` must be given, `target`, `master`
        and others may be; of a table such as `trial_training` a dict of the fields that differ.
    Raises GenetsError, and InfeasibleBudgetError if the budget cannot be kept.
    """
    chosen = SearchSettings(**settings_at(Path(out), preset, settings))
    return run.search(chosen, out, workers=workers, on_event=on_event)
