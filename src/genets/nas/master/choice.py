"""The latencies of compared MasterNets; see `analysis.masters` for their ranking."""

from __future__ import annotations

from genets.analysis.masters import MasterRanking
from genets.core.progress import OnProgress, Progress
from genets.nas.laboratory import Laboratory
from genets.nas.settings.settings import SearchSettings


def measure_masters(
    ranking: MasterRanking, settings: SearchSettings, num_classes: int, on_progress: OnProgress
) -> dict[str, float]:
    """Measure the ranked structures in turn, on the target of a search.

    Args:
        ranking: The structures.
        settings: The settings of the search.
        num_classes: The number of classes of the data.
        on_progress: Called with the progress.

    Returns:
        The latency of each structure by its name, in ms per image.
    """

    def show(share: float) -> None:
        on_progress(Progress("measuring", 100 * share, 100))

    structures = {row.name: row.structure for row in ranking.ranked}
    measured = Laboratory().measure(
        [*structures.values()], settings.target, num_classes, settings.measure_seconds, show
    )
    show(1.0)
    return {name: measured[structure].ms_per_image for name, structure in structures.items()}
