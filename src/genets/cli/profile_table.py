"""`genets profile --table`: the latency tables that a search needs, made ahead."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from genets.analysis import Progress
from genets.cli.output import print_json, print_lines
from genets.cli.progress import show_progress
from genets.cli.targets import make_target
from genets.core.errors import SettingsError
from genets.nas.settings.settings import SearchSettings
from genets.nas.study.study import is_study, load_settings
from genets.nas.table_ahead import table_ahead, table_for_study


def make_table(
    name: str,
    out: Path | None,
    options: dict[str, Any],
    space: dict[str, Any],
    num_classes: int,
    seed: int,
    json: bool,
) -> None:
    """Measure the table of MasterNet or study `name`, keep it, and say how good it is."""
    with show_progress(plain=json) as on_event:

        def tell(share: float) -> None:
            on_event(Progress("latency table", round(100 * share), 100))

        if is_study(Path(name)):
            target = make_target(options, load_settings(Path(name)).target) if options else None
            made, path = table_for_study(Path(name), target, tell)
        else:
            if out is None:
                raise SettingsError(
                    "--table with a MasterNet needs --out: where the search will be"
                )
            settings = SearchSettings(
                data="none", budget="1x", master=name, space=space, target=make_target(options)
            )
            around = settings.space.design_space().around(settings.structure)
            made, path = table_ahead(
                around, settings.target, num_classes, out, seed=seed, on_progress=tell
            )
    facts = {
        "table": str(path),
        "target": made.target.name,
        "entries": len(made.timed_ms),
        "rmspe": made.rmspe,
    }
    if json:
        print_json(facts)
    else:
        print_lines(
            [
                f"{len(made.timed_ms)} entries for {made.target.name} in {path}; error on whole "
                f"networks that no fit has seen: {made.rmspe:.1%} RMSPE"
            ]
        )
