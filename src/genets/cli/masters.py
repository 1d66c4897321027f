"""`genets search --compare-masters`: the best of several MasterNets (paper, section 4.1)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genets.core.errors import SettingsError
from genets.core.output_folder import check_writable_folder

if TYPE_CHECKING:
    from genets.analysis.masters import MasterRanking
    from genets.nas.settings.settings import SearchSettings
    from genets.nas.workers.job import Machines

TRAININGS = 2  # trainings of each compared structure; each has its own seed


def read_masters(text: str, given: dict[str, Any]) -> list[str]:
    """Split the structures to compare. Raises SettingsError.

    given: The settings of the command, from its settings file and its options.
    """
    if "master" in given:
        raise SettingsError("give --master or --compare-masters, not both")
    structures = [name.strip() for name in text.split(",") if name.strip()]
    if len(set(structures)) < 2:
        raise SettingsError("--compare-masters needs at least two structures, such as net1,net2")
    return structures


def choose_master(
    structures: Sequence[str],
    merged: dict[str, Any],
    out: Path,
    machines: Machines,
    *,
    plain: bool,
) -> str:
    """Train the named structures, show their ranking, and return the best in the notation.

    Args:
        structures: Zoo names, files or notations.
        merged: The settings of the search; data, resolution, recipe and seeds of the ranking.
        out: The folder of the study, which keeps the ranking.
        machines: Where the workers of the search will run; checked before any training.
        plain: Whether progress is shown in lines.

    Raises:
        GenetsError: The structures cannot be compared, or the study has its MasterNet.
    """
    from genets.cli.output import print_remark, remark_console
    from genets.nas.settings.settings import SearchSettings
    from genets.nas.study.reader import is_study
    from genets.report.study.tables import masters_table

    settings = {name: SearchSettings(**{**merged, "master": name}) for name in structures}
    if not is_study(out) and any(each.has_starting_weights for each in settings.values()):
        raise SettingsError(
            "--compare-masters trains structures from scratch, so it takes no starting weights; "
            "leave out --pretrained, --weights and the preset photos, and name no results folder"
        )
    ranking, latencies = _rank(settings, out, machines, plain=plain)
    remark_console().print(masters_table(ranking.with_latencies(latencies), ranking.metric))
    for failed in ranking.failed:
        print_remark(f"{failed.name}: {failed.reason}")
    return str(ranking.best)


def _rank(
    settings: dict[str, SearchSettings], out: Path, machines: Machines, *, plain: bool
) -> tuple[MasterRanking, dict[str, float]]:
    """Train and time the structures; the latencies are ms per image on the target."""
    from genets.analysis.masters import check_masters, rank_masters
    from genets.cli.progress import show_progress
    from genets.core.errors import StudyError
    from genets.core.progress import Progress
    from genets.core.resumable import ResumableFolder
    from genets.nas.image_loading import load_images
    from genets.nas.master.choice import measure_masters
    from genets.nas.study import layout
    from genets.nas.study.reader import is_study
    from genets.training.resources import training_device

    structures = {name: each.structure for name, each in settings.items()}
    check_masters(structures)
    check_writable_folder(out)
    folder = ResumableFolder(out, layout.KIND)
    folder.check_usable()
    if is_study(out) and not (out / layout.RANKING).exists():
        raise StudyError(f"study {out} has a MasterNet; --compare-masters needs a new study")
    first = next(iter(settings.values()))
    device = training_device(first.training_device)
    machines.check(device)
    with show_progress(plain=plain) as on_progress:
        data = load_images(first, first.resolution, device, check=True, on_progress=on_progress)
        with folder.create_or_resume():
            ranking = rank_masters(
                structures,
                data,
                first.master_training.recipe(),
                seeds=range(first.seed, first.seed + TRAININGS),
                metric=first.metric,
                device=device,
                keep=out / layout.RANKING,
                on_training=lambda done, total, name: on_progress(
                    Progress("MasterNets", done, total, name)
                ),
            )
        return ranking, measure_masters(ranking, first, data.num_classes, on_progress)
