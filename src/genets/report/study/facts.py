"""The conditions of a study's figures in words, its state, and its record for JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from genets.core.errors import counted
from genets.latency import LatencyTable, Target
from genets.nas.selection.budget_search import MAX_ATTEMPTS
from genets.nas.selection.measured import TargetLatency
from genets.nas.selection.network_latency import NetworkLatency
from genets.nas.selection.proposals import max_networks
from genets.nas.settings.space import SpaceSettings
from genets.nas.snapshot import Snapshot
from genets.nas.study import layout
from genets.nas.study.reader import StudyReader
from genets.nas.study.trial_database import read_in_order
from genets.nas.warnings import list_warnings
from genets.report.wording import describe_target, duration_text, folds_text, refused_sentence
from genets.structure import Structure
from genets.training.variants import describe_variants

TRAININGS = {"master_training": "MasterNet", "final_training": "candidates and winner"}


def study_conditions(snapshot: Snapshot, date: str) -> dict[str, str]:
    """The settings that hold for all figures."""
    s = snapshot.settings
    space = s.space
    done = len(snapshot.results) - len(snapshot.failed)
    failed = f", {len(snapshot.failed)} failed" if snapshot.failed else ""
    decided = [f"{TRAININGS[name]}: {describe_variants(tried)}"
               for name, tried in snapshot.short_trainings.items()]  # fmt: skip
    return {
        "study": str(snapshot.folder),
        "data": s.data,
        "target": describe_target(s.target),
        "budgets" if snapshot.budgets else "budget": _budget(snapshot),
        "MasterNet": s.master,
        "search space": f"blocks {', '.join(space.blocks)}; widths {space.width_range[0]:g} to "
        f"{space.width_range[1]:g} times in steps of {space.width_step}; depths ± "
        f"{space.depth_change}" + _ends(space) + _resolutions(snapshot),
        "trials": f"{done} done of {snapshot.planned}{failed}{_rounds(snapshot)}",
        "prediction": f"{s.metric.label}, regression {s.regression}, selection {s.selection}",
        **({"recipes": "; ".join(decided)} if decided else {}),
        "seed": str(s.seed),
        "time": _times(snapshot),
        "page made": date,
    }


def _budget(snapshot: Snapshot) -> str:
    """Each budget as it was asked for, and in ms per image where that is known."""
    return "; ".join(
        each.budget
        if each.selected is None
        else f"{each.selected.budget_ms:.4g} ms per image ({each.budget})"
        for each in snapshot.each_budget
    )


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


def own_measured(snapshot: Snapshot) -> Mapping[Structure, NetworkLatency]:
    """The measured networks on the target of the search."""
    return {} if snapshot.own_latency is None else snapshot.own_latency.measured


def pixels_text(resolutions: Sequence[int]) -> str:
    """A text such as `12, 16 and 20 pixels`."""
    *others, last = map(str, resolutions)
    return f"{', '.join(others)} and {last} pixels" if others else f"{last} pixels"


def _times(snapshot: Snapshot) -> str:
    phases = [f"{name} {duration_text(seconds)}" for name, seconds in snapshot.seconds.items()]
    return ", ".join(phases) or "no phase has ended yet"


def round_suffix(snapshot: Snapshot) -> str:
    """The round of the accuracy model, for a title; empty in a study of one round."""
    return f", round {snapshot.latest.number}" * (len(snapshot.rounds) > 1)


def latency_conditions(latency: TargetLatency) -> str:
    """Device, target, protocol, versions and table error, in one sentence."""
    environment = latency.table.environment
    packages = environment.get("packages") or {}
    versions = ", ".join(f"{name} {number}" for name, number in packages.items() if number)
    protocols = sorted({m.network.protocol for m in latency.measured.values()})
    held_out, source = len(latency.table.held_out_ms_per_image), latency.table.source_name
    error = f"{latency.table.rmspe:.1%} on {held_out} networks that it was not fitted to"
    parts = [
        str(environment.get("device_name") or latency.target.device),
        describe_target(latency.target),
        pixels_text(latency.table.space.resolutions),
        *([f"protocol {', '.join(protocols)}"] if protocols else []),
        versions,
        f"root mean square error of predictions {error}" if held_out else "no network was held out",
        *([f"latency table made from that of {source}"] if source else []),
    ]
    return "Latency: " + "; ".join(part for part in parts if part) + "."


def accuracy_conditions(snapshot: Snapshot) -> str:
    """The images and trainings behind the accuracies, in one sentence."""
    s, score = snapshot.settings, snapshot.master_score
    of_data = f"validation images of {s.data}"
    if s.num_folds > 1:
        of_data = f"training images of {s.data}, {folds_text(s.num_folds)}"
    images = f"{score.images} {of_data}" if score else of_data
    trial, epochs = s.trial_training, counted(s.master_training.epochs, "epoch")
    # Trials that inherit weights ignore their epochs, as the plan of a search says.
    length = f"{trial.feature_steps} steps or more with inherited weights"
    if s.from_scratch:
        length = counted(trial.epochs, "epoch")
    return (
        f"Accuracy: {images}, {s.structure.resolution} pixels; trials of {length}, inside a "
        f"MasterNet that was trained for {epochs}; one training each, seed {s.seed}."
    )


def state_sentences(snapshot: Snapshot) -> list[str]:
    """Whether the study is finished, the last failure, and the missing parts."""
    missing = snapshot.missing()
    state = "This study is finished."
    refused = {each.budget: each.refusal for each in snapshot.each_budget if each.refusal}
    if refused:
        state = f"This study is finished, but {refused_sentence(refused)}."
    if missing:
        state = f"This study is unfinished: {'; '.join(missing)}."
    elif snapshot.failure:
        state = "The results are those of an earlier run, which finished."
    if not snapshot.failure:
        return [state]
    return [f"The last run of this search stopped: {snapshot.failure}.", state]


def finished_parts(folder: Path) -> list[str]:
    """The parts of a study that a continued search does not repeat, such as `16 trials complete`.

    Raises StudyError where the folder is no study or a file is damaged.
    """
    study = StudyReader(folder)
    rounds = study.round_numbers
    paths = (study.folder / layout.in_round(number, layout.TRIALS) for number in rounds)
    trials = [result for path in paths for result in read_in_order(path)]
    done = sum(result.status == "done" for result in trials)
    budgets = study.each_budget()
    ended = [each for budget in budgets for n in rounds for each in budget.trained(n)]
    trained = {each.structure for each in ended if each.status == "done"}
    screened = study.num_screened
    winners = sum(budget.winner_weights.exists() for budget in budgets)
    winner_words = "winner trained" if len(budgets) == 1 else f"{winners} winners trained"
    rivals = len([*(study.folder / layout.RIVALS).glob("*.json")])
    table = layout.table_path(study.latency_folder, study.settings.target.name)
    return [
        words
        for is_finished, words in (
            (table.exists(), "latency table complete"),
            (study.master_score() is not None, "MasterNet trained"),
            (done > 0, f"{done} trials complete"),
            (screened > 0, f"{counted(screened, 'structure')} screened"),
            (bool(trained), f"{len(trained)} candidates trained"),
            (winners > 0, winner_words),
            (rivals > 0, f"{counted(rivals, 'rival')} trained"),
        )
        if is_finished
    ]


def measuring_sentence(study: StudyReader, target: Target, top: int) -> str:
    """How long a selection from a study measures, with the latency table of a new target.

    Raises StudyError where a file of the study is damaged.
    """
    seconds = study.settings.measure_seconds * max_networks(top)
    sentence = (
        f"Measuring usually takes at most {MAX_ATTEMPTS} attempts of up to "
        f"{duration_text(seconds)} each."
    )
    if layout.table_path(study.latency_folder, target.name).exists():
        return sentence
    tables = layout.list_tables(study.latency_folder)
    before = [sum(LatencyTable.load(path).seconds.values()) for path in tables]
    likely = max(before, default=0.0) or study.settings.table_seconds
    return (
        f"First the latency table of {target.name} is measured, which takes about "
        f"{duration_text(likely)} on a device as fast as before. {sentence}"
    )


def _budget_record(snapshot: Snapshot) -> dict[str, Any]:
    """The figures of one of several budgets; the scores are on test images."""
    result = snapshot.result or {}
    return {
        "budget": snapshot.budget,
        "refusal": snapshot.refusal,
        "selected": snapshot.selected and snapshot.selected.to_json(),
        **{name: result.get(name) for name in ("master", "winner", "difference")},
        "screened": [structure.to_json() for structure in snapshot.latest.screened],
        "confirmed": [candidate.to_json() for candidate in snapshot.confirmed],
        "rivals": [rival.to_json() for rival in snapshot.rivals],
    }


def study_record(snapshot: Snapshot) -> dict[str, Any]:
    """The figures of the page, for JSON."""
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
        "folds": snapshot.settings.num_folds,
        "targets": [
            {
                "target": latency.target.name,
                "table_rmspe": latency.table.rmspe if latency.table.held_out_ms_per_image else None,
                "measured_networks": len(latency.measured),
            }
            for latency in snapshot.targets
        ],
        "selected": selected and selected.to_json(),
        "screened": [structure.to_json() for structure in snapshot.latest.screened],
        "confirmed": [candidate.to_json() for candidate in snapshot.confirmed],
        "rivals": [rival.to_json() for rival in snapshot.rivals],
        **(
            {"budgets": [_budget_record(each) for each in snapshot.budgets]}
            if snapshot.budgets
            else {}
        ),
        "rounds": [
            {
                "round": round_snapshot.number,
                "master": str(round_snapshot.master),
                "master_validation": round_snapshot.score and round_snapshot.score.to_json(),
                "trials": len(round_snapshot.results),
                "confirmed": [str(trained.structure) for trained in round_snapshot.confirmed],
            }
            for round_snapshot in snapshot.rounds
        ],
        "accuracy_model": model and model.to_json(),
        "warnings": list_warnings(snapshot),
    }
