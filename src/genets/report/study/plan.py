"""Tables and sentence of the plan of a search."""

from __future__ import annotations

import time

from rich.table import Table

from genets.core.errors import counted
from genets.nas.plan.search_plan import SearchPlan
from genets.nas.settings.training import TrainingSettings
from genets.nas.workers.local import LocalMachine
from genets.report.tables import facts_table, screen_table
from genets.report.wording import describe_target
from genets.training.recipe import AUTO

HEADER = ("phase", "work", "epochs", "steps", "time", "estimated from")
DOUBT = (
    "The total time should be right within a factor of 1.5, and the time of a phase of more than "
    "20 seconds within a factor of 2, if other programs use the machine as little as during the "
    "probe. The time of waiting for a calm device is not included."
)

CLUSTER = "The estimate assumes that the machines of the cluster are as fast as this machine."


def plan_tables(plan: SearchPlan) -> list[Table]:
    """The settings with their reasons, and the phases."""
    settings, trials = plan.settings, plan.settings.trial_training
    start = settings.weights or ("published weights" if settings.pretrained else "fresh weights")
    steps = f"inherited weights, {trials.feature_steps} steps or more, batch {trials.batch_size}"
    sizes = {name: _size_text(size) for name, size in plan.disk_bytes.items() if size}
    facts = [
        ("images", ", ".join(f"{number} {split}" for split, number in plan.images.items())),
        ("budget", ", ".join(settings.all_budgets)),
        ("target", describe_target(settings.target)),
        ("MasterNet", f"{settings.master}, {start}"),
        ("MasterNet training", _training_text(settings.master_training)),
        ("trials", _training_text(trials) if settings.from_scratch else steps),
        ("candidates and winner", _training_text(settings.final_training)),
        (
            "workers",
            f"{plan.workers} on {plan.workers_on}, training device {settings.training_device}",
        ),
        *(
            [("MasterNet and winner", f"{plan.processes} processes share each batch")]
            if plan.processes > 1
            else []
        ),
        *(("reason", reason) for reason in plan.reasons),
        (
            "disk",
            f"up to {_size_text(sum(plan.disk_bytes.values()))}, for "
            + ", ".join(f"{name} {size}" for name, size in sizes.items()),
        ),
        ("free disk", _size_text(plan.free_bytes)),
    ]
    rows = [
        [each.phase, each.work, _number(each.epochs), _number(each.steps),
         _rough_text(each.seconds), each.basis]
        for each in plan.phases
    ]  # fmt: skip
    rows.append(["all phases", "", "", "", _rough_text(plan.seconds), ""])
    return [
        facts_table("Settings", facts),
        screen_table("Phases", HEADER, rows, left=2, fold=("work", "estimated from")),
    ]


def plan_sentence(plan: SearchPlan) -> str:
    """The time of the search, its GPU-hours, and how uncertain the time is."""
    probe, finish = _rough_text(plan.probe_seconds), time.localtime(plan.finish_at)
    search = "The rest of the search" if plan.continued else "The search"
    sentence = (
        f"{search} takes about {_rough_text(plan.seconds)} on {plan.workers_on}, estimated "
        f"from a probe of {probe}. A search that begins now ends at about "
        f"{time.strftime('%Y-%m-%d %H:%M', finish)}."
    )
    if plan.gpus:
        gpus = counted(plan.gpus, "GPU")
        sentence += f" It uses about {plan.gpu_hours:.2g} GPU-hours, on {gpus}."
    if plan.workers_on != str(LocalMachine()):
        sentence += f" {CLUSTER}"
    return f"{sentence} {DOUBT}"


def _training_text(training: TrainingSettings) -> str:
    words = f"{training.epochs} epochs, batch {training.batch_size}"
    rate = training.learning_rate
    text = "that short trainings decide" if rate == AUTO else f"of {rate:g}"
    return f"{words}, {training.optimizer} at a rate {text}"


def _number(number: int | None) -> str:
    return "-" if number is None else str(number)


def _size_text(size: int) -> str:
    return f"{size / 1e6:,.0f} MB" if size >= 1e8 else f"{size / 1e6:.1f} MB"


def _rough_text(seconds: float) -> str:
    """A duration with the digits that an estimate has, such as `35 s`, `12 min` or `2.5 h`."""
    if seconds < 60:
        return f"{5 * max(1, round(seconds / 5))} s"
    if seconds < 100 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.1f} days"
