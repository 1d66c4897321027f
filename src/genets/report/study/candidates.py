"""The candidates of a search that were trained, and which of them won."""

from __future__ import annotations

from genets.nas.study.records import Confirmed
from genets.nas.study.snapshot import Snapshot
from genets.report.html import Cell, PageTable, Paragraph, Section

HEADER = ("candidate", "pixels", "ms per image", "times the MasterNet", "validation top-1",
          "validation cross-entropy", "epochs", "structure")  # fmt: skip


def candidates_section(snapshot: Snapshot) -> Section:
    """Empty where the winner had no rival."""
    confirmed = snapshot.confirmed
    if not confirmed:
        return Section("Candidates", [])
    winner = snapshot.selected.structure if snapshot.selected else None
    chosen = {n for n, one in enumerate(confirmed) if one.structure == winner}
    names = [f"{n + 1}{', winner' * (n in chosen)}" for n in range(len(confirmed))]
    rows = [_row(name, one, snapshot) for name, one in zip(names, confirmed, strict=True)]
    at_each = "each at its own resolution, " * (len(snapshot.around.resolutions) > 1)
    said = (
        f"Trained from scratch by the final recipe, {at_each}and scored on validation images; "
        f"the best {snapshot.settings.response.replace('_', '-')} wins. One training each, "
        f"seed {snapshot.settings.seed}."
    )
    return Section("Candidates", [PageTable(HEADER, rows, frozenset(chosen)), Paragraph(said)])


def _row(name: str, one: Confirmed, snapshot: Snapshot) -> list[Cell | str]:
    scores: list[Cell | str] = ["-", Cell(f"failed: {one.reason}", "text")]
    if one.top1 is not None and one.cross_entropy is not None:
        scores = [f"{one.top1:.2%}", f"{one.cross_entropy:.4g}"]
    structure = one.structure
    own = [on for on in snapshot.targets if on.target == snapshot.settings.target.resolved()]
    known = next((on.measured[structure] for on in own if structure in on.measured), None)
    latency = ["-", "-"]
    if known is not None:
        ms, master_ms = known.network.ms_per_image, known.master_ms_per_image
        latency = [f"{ms:.4g}", f"{ms / master_ms:.3g}"]
    return [
        name,
        str(structure.resolution),
        *latency,
        *scores,
        str(one.epochs),
        Cell(str(structure), "text"),
    ]
