"""What a study's figures hold for, in words; and its record for machines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from genets.nas.selection.measured import TargetLatency
from genets.nas.settings.space import SpaceSettings
from genets.nas.study.snapshot import Snapshot
from genets.nas.warnings import list_warnings
from genets.report.conditions import described


def study_conditions(snapshot: Snapshot, date: str) -> dict[str, str]:
    """The settings that all figures share."""
    s = snapshot.settings
    space = s.space
    done = len(snapshot.results) - len(snapshot.failed)
    failed = f", {len(snapshot.failed)} failed" if snapshot.failed else ""
    return {
        "study": str(snapshot.folder),
        "data": s.data,
        "target": described(s.target),
        "budget": s.budget,
        "MasterNet": s.master,
        "design space": f"blocks {', '.join(space.blocks)}; widths {space.width_range[0]:g} to "
        f"{space.width_range[1]:g} times in steps of {space.width_step}; depths ± "
        f"{space.depth_change}" + _ends(space) + _resolutions(snapshot),
        "trials": f"{done} done of {snapshot.planned}{failed}{_rounds(snapshot)}",
        "prediction": f"{s.metric}, regression {s.regression}, selection {s.selection}",
        "seed": str(s.seed),
        "time": _times(snapshot),
        "page made": date,
    }


def _ends(space: SpaceSettings) -> str:
    ranges = {"stem": space.stem_width_range, "head": space.head_width_range}
    searched = (f"; {name} {low:g} to {high:g} times"
                for name, (low, high) in ranges.items() if low < high)  # fmt: skip
    return "".join(searched)


def _rounds(snapshot: Snapshot) -> str:
    begun, asked = len(snapshot.rounds), snapshot.settings.rounds
    return f"; {begun} of {asked} rounds begun" if asked > 1 else ""


def _resolutions(snapshot: Snapshot) -> str:
    around = snapshot.around
    return f"; {pixels_text(around.resolutions)}" if len(around.resolutions) > 1 else ""


def pixels_text(resolutions: Sequence[int]) -> str:
    """As `12, 16 and 20 pixels`."""
    *others, last = map(str, resolutions)
    return f"{', '.join(others)} and {last} pixels" if others else f"{last} pixels"


def _times(snapshot: Snapshot) -> str:
    phases = [f"{name} {_duration(seconds)}" for name, seconds in snapshot.seconds.items()]
    return ", ".join(phases) or "no phase has ended yet"


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.1f} min"


def latency_conditions(on: TargetLatency) -> str:
    """Device, target, protocol, versions and table error, in one sentence."""
    environment = on.table.environment
    packages = environment.get("packages") or {}
    versions = ", ".join(f"{name} {number}" for name, number in packages.items() if number)
    protocols = sorted({m.network.protocol for m in on.measured.values()})
    held_out = len(on.table.held_out_ms_per_image)
    error = f"{on.table.rmspe:.1%} (RMSPE) on {held_out} networks that it never saw"
    parts = [
        str(environment.get("device_name") or on.target.device),
        described(on.target),
        pixels_text(on.table.space.resolutions),
        *([f"protocol {', '.join(protocols)}"] if protocols else []),
        versions,
        f"error of the latency table {error}" if held_out else "no network was held out",
    ]
    return "Latency: " + "; ".join(part for part in parts if part) + "."


def accuracy_conditions(snapshot: Snapshot) -> str:
    """On what and how accuracies were observed, in one sentence."""
    s, score = snapshot.settings, snapshot.master_score
    images = f"{score['images']:.0f} validation images" if score else "validation images"
    trial, master = s.trial_training, s.master_training
    return (
        f"Accuracy: {images} of {s.data}, {s.structure.resolution} pixels; trials of "
        f"{trial.epochs} epochs inside a MasterNet trained for {master.epochs}, one training each, "
        f"seed {s.seed}."
    )


def state_sentences(snapshot: Snapshot) -> list[str]:
    """Finished, or what stopped it and what is missing."""
    missing = snapshot.missing()
    if not missing:
        return ["This study is finished."]
    found = []
    if snapshot.failure:
        found.append(f"The last run of this search stopped: {snapshot.failure}.")
    return [*found, f"This study is unfinished: {'; '.join(missing)}."]


def study_record(snapshot: Snapshot) -> dict[str, Any]:
    """The figures of the page, for machines."""
    model, selected = snapshot.model, snapshot.selected
    return {
        "study": str(snapshot.folder),
        "finished": not snapshot.missing(),
        "missing": snapshot.missing(),
        "failure": snapshot.failure,
        "trials": {
            "planned": snapshot.planned,
            "done": len(snapshot.results) - len(snapshot.failed),
            "failed": len(snapshot.failed),
        },
        "targets": [
            {
                "target": on.target.name,
                "table_rmspe": on.table.rmspe if on.table.held_out_ms_per_image else None,
                "measured_networks": len(on.measured),
            }
            for on in snapshot.targets
        ],
        "selected": selected and selected.to_json(),
        "confirmed": [candidate.to_json() for candidate in snapshot.confirmed],
        "rounds": [
            {
                "round": each.number,
                "master": str(each.master),
                "master_validation": each.score,
                "trials": len(each.results),
                "confirmed": [str(one.structure) for one in each.confirmed],
            }
            for each in snapshot.rounds
        ],
        "accuracy_model": model and model.to_json(),
        "warnings": list_warnings(snapshot),
    }
