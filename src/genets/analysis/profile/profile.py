"""Profile: what latency depends on, on one device (Figures 2 and 3, paper, section 3.2).

Chains of one block type, as in Figure 3 (paper, section 3.2).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from torch import nn

from genets.analysis.comparison.compare import OnProgress, Progress, Timing, compare
from genets.analysis.comparison.networks import ComparedNetwork, find_network
from genets.analysis.comparison.rows import Comparison, ComparisonRow
from genets.core.errors import GenetsError
from genets.latency import Target
from genets.latency.predictor.probes import BlockProbe
from genets.structure import Block
from genets.structure.block import WIDTH_STEP

BATCH_NETWORKS = ("ResNet-50", "ResNet-152", "MobileNetV2-1.0", "EfficientNet-B0")
COST_NETWORKS = (
    "ResNet-18", "ResNet-34", "ResNet-50", "ResNet-101", "ResNet-152",
    "MobileNetV2-0.25", "MobileNetV2-0.5", "MobileNetV2-0.75", "MobileNetV2-1.0",
    "MobileNetV2-1.4",
    "EfficientNet-B0", "EfficientNet-B1", "EfficientNet-B2", "EfficientNet-B3",
)  # fmt: skip
BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)
WIDTHS = (32, 64, 128, 256)
RATIOS = (1.0, 0.5, 0.25)


@dataclass(frozen=True)
class ProfileSettings:
    """What is timed; the defaults are the paper's, as far as it tells them.

    target: of Figures 2 (b, c) and 3; Figure 2 (a) varies its batch size.
    resolution: pixels, of Figure 2; the paper has 224 for every network.
    block_resolution: pixels, of Figure 3.
    run_limit_s: what is expected to take longer for one run is left out. From what was
        measured before: a smaller batch, a narrower block.
    """

    target: Target
    batch_networks: Sequence[str] = BATCH_NETWORKS
    cost_networks: Sequence[str] = COST_NETWORKS
    batch_sizes: Sequence[int] = BATCH_SIZES
    resolution: int = 224
    widths: Sequence[int] = WIDTHS
    ratios: Sequence[float] = RATIOS
    block_resolution: int = 224
    run_limit_s: float = 0.5
    timing: Timing = field(default_factory=lambda: Timing(time_limit_s=2.0))
    seed: int = 0


@dataclass(frozen=True)
class Profile:
    """The rows of each figure; chains: what the networks of `blocks` are, by name."""

    batches: Comparison
    costs: Comparison
    blocks: Comparison
    chains: dict[str, BlockChain]
    settings: ProfileSettings

    @property
    def rows(self) -> tuple[ComparisonRow, ...]:
        return (*self.batches.rows, *self.costs.rows, *self.blocks.rows)

    @property
    def left_out(self) -> list[str]:
        """A sentence for every series that the run limit, or a failure, cut short."""
        found = []
        most = max(self.settings.batch_sizes)
        for name in self.batches.networks:
            largest = max(
                (r.target.batch_size for r in self.batches.rows
                 if r.network == name and r.measurement), default=0,
            )  # fmt: skip
            if largest < most:
                found.append(f"{name} above batch size {largest}")
        widest = max(self.settings.widths)
        for series in dict.fromkeys(chain.series for chain in self.chains.values()):
            measured = (self.chains[r.network] for r in self.blocks.rows if r.measurement)
            width = max((chain.width for chain in measured if chain.series == series), default=0)
            if width < widest:
                found.append(f"{series} above width {width}")
        return found


def profile(
    settings: ProfileSettings,
    *,
    folder: Path | None = None,
    on_progress: OnProgress | None = None,
) -> Profile:
    """Time all of it. Raises GenetsError: a wrong name, number or target.

    folder: rows are kept there as they finish, a file for each figure, so that a figure's
        rows are not taken from another's; see `compare`.
    """
    _check(settings)
    settings = replace(settings, target=settings.target.resolved())
    session = _Session(settings, folder, on_progress)
    chains = list(chains_of(settings.widths, settings.ratios))
    find = partial(find_network, resolution=settings.resolution, seed=settings.seed)
    batch_candidates = [find(name) for name in dict.fromkeys(settings.batch_networks)]
    cost_candidates = [find(name) for name in dict.fromkeys(settings.cost_networks)]
    return Profile(
        batches=session.batches(batch_candidates),
        costs=session.costs(cost_candidates),
        blocks=session.blocks(chains),
        chains={chain.name: chain for chain in chains},
        settings=settings,
    )


def _check(settings: ProfileSettings) -> None:
    for name in ("resolution", "block_resolution"):
        if getattr(settings, name) < 1:
            raise GenetsError(f"{name} must be above 0, not {getattr(settings, name)}")
    if not settings.run_limit_s > 0:
        raise GenetsError(f"run_limit_s must be above 0, not {settings.run_limit_s:g}")
    for name in ("batch_networks", "cost_networks", "batch_sizes", "widths", "ratios"):
        if not getattr(settings, name):
            raise GenetsError(f"{name} must not be empty")
    for size in settings.batch_sizes:
        replace(settings.target, batch_size=size)  # refuses what is no batch size


@dataclass(frozen=True)
class _Session:
    settings: ProfileSettings
    folder: Path | None
    on_progress: OnProgress | None

    def batches(self, candidates: Sequence[ComparedNetwork]) -> Comparison:
        """Batch sizes ascending; networks leave as their runs become too long."""
        found, sizes = Comparison(), sorted(set(self.settings.batch_sizes))
        total, last = len(candidates) * len(sizes), dict[str, ComparisonRow]()
        for number, size in enumerate(sizes):
            target = replace(self.settings.target, batch_size=size)
            quick = [c for c in candidates if self._is_quick(last.get(c.name), size, 1.0)]
            rows = self._measure("by batch size", quick, target, number * len(candidates), total)
            last |= {row.network: row for row in rows.rows}
            found = found.with_rows(rows.rows, rows.references)
        return found

    def costs(self, candidates: Sequence[ComparedNetwork]) -> Comparison:
        return self._measure("by cost", candidates, self.settings.target, 0, len(candidates))

    def blocks(self, chains: Sequence[BlockChain]) -> Comparison:
        """Widths ascending; a series ends where its runs become too long."""
        found, last = Comparison(), dict[str, tuple[ComparisonRow, ComparedNetwork]]()
        done = 0
        for width in sorted({chain.width for chain in chains}):
            wide = [chain for chain in chains if chain.width == width]
            quick = {}
            for chain in wide:
                candidate = chain.candidate(self.settings.block_resolution)
                before = last.get(chain.series)
                growth = 1.0
                if before:
                    growth = candidate.size.multiply_adds / before[1].size.multiply_adds
                row = before[0] if before else None
                if self._is_quick(row, self.settings.target.batch_size, growth):
                    quick[chain.series] = candidate
            target = self.settings.target
            rows = self._measure("blocks", list(quick.values()), target, done, len(chains))
            done += len(wide)
            by_name = {row.network: row for row in rows.rows}
            last |= {series: (by_name[c.name], c) for series, c in quick.items()}
            found = found.with_rows(rows.rows, rows.references)
        return found

    def _is_quick(self, before: ComparisonRow | None, batch_size: int, growth: float) -> bool:
        """Whether a run is expected to keep the limit, from the one before it in its series."""
        if before is None:
            return True
        if before.ms_per_image is None:
            return False  # what failed once will not fit when it is larger
        seconds = before.ms_per_image * growth * batch_size / 1e3
        return seconds <= self.settings.run_limit_s

    def _measure(
        self,
        phase: str,
        candidates: Sequence[ComparedNetwork],
        target: Target,
        done: int,
        total: int,
    ) -> Comparison:
        def tell(progress: Progress) -> None:
            if self.on_progress:
                last = progress.done >= progress.total and done + len(candidates) >= total
                now = total if last else done + progress.done
                self.on_progress(Progress(phase, now, total, progress.detail))

        if not candidates:
            return Comparison()
        file = self.folder / f"rows-{phase.replace(' ', '-')}.json" if self.folder else None
        timing = self.settings.timing
        return compare(candidates, [target], timing=timing, file=file, on_progress=tell)


KERNEL = 3
# 5 XX blocks have as many k x k convolutions as 10 of the others: the same visual region.
DEPTHS = {"XX": 5, "BL": 10, "DW": 10}


@dataclass(frozen=True, slots=True)
class BlockChain:
    """Blocks of one type, stride 1, kernel 3.

    width: channels between XX or BL blocks; of a DW block the channels of its depth-wise layer.
    ratio: at most 1, and 1 for XX. Of a DW block, in this section, the width between blocks
        over `width`: 1/r of the notation.
    """

    type: str
    width: int
    ratio: float

    @property
    def series(self) -> str:
        return self.type if self.type == "XX" else f"{self.type} r={self.ratio:g}"

    @property
    def name(self) -> str:
        return f"{self.series} width {self.width}"

    def network(self) -> nn.Module:
        """(N, channels between blocks, resolution, resolution) in and out."""
        if self.type == "DW":
            between, block = round(self.width * self.ratio), Block("DW", KERNEL, 1 / self.ratio)
        else:
            between, block = self.width, Block(self.type, KERNEL, self.ratio)
        return BlockProbe(0, block, between, between, 1, 0, DEPTHS[self.type]).network()

    def candidate(self, resolution: int) -> ComparedNetwork:
        return ComparedNetwork(self.name, self.series, resolution, self.network)


def chains_of(widths: Iterable[int], ratios: Iterable[float]) -> Iterator[BlockChain]:
    """XX, and BL and DW with every ratio, for each width, ascending. Raises GenetsError."""
    ratios = sorted(set(ratios), reverse=True)
    for ratio in ratios:
        if not 0 < ratio <= 1:
            raise GenetsError(f"ratio must be above 0 and at most 1, not {ratio:g}")
    for width in sorted(set(widths)):
        for ratio in (1.0, *ratios):
            inner = width * ratio
            if inner < WIDTH_STEP or inner % WIDTH_STEP:
                raise GenetsError(
                    f"width times ratio must be a multiple of {WIDTH_STEP}, "
                    f"but {width} times {ratio:g} is {inner:g}"
                )
        yield BlockChain("XX", width, 1.0)
        for kind in ("BL", "DW"):
            for ratio in ratios:
                yield BlockChain(kind, width, ratio)
