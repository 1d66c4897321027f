"""Profile: latency by batch size, cost, block type and width on one device (Figures 2 and 3).

See section 3.2 of the paper.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from torch import nn

from genets.analysis.comparison.compare import measure_rows
from genets.analysis.comparison.networks import ComparedNetwork, find_network
from genets.analysis.comparison.rows import (
    Comparison,
    ComparisonRow,
    OnUnsaved,
    RowFile,
    Timing,
    open_rows,
)
from genets.core.errors import GenetsError
from genets.core.progress import OnProgress, Progress
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
KERNEL = 3
BATCHES, COSTS, BLOCKS = "by-batch-size", "by-cost", "blocks"  # the figures, as files name them
# 5 XX blocks have as many k x k convolutions as 10 BL or DW blocks: the same visual region.
DEPTHS = {"XX": 5, "BL": 10, "DW": 10}


@dataclass(frozen=True)
class ProfileSettings:
    """The networks and blocks to time. The defaults are the paper's, as far as it states them.

    Attributes:
        target: Of Figures 2 (b, c) and 3; Figure 2 (a) varies its batch size.
        resolution: Of Figure 2, in pixels; the paper has 224 for every network.
        block_resolution: Of Figure 3, in pixels.
        run_limit_s: Networks whose single run is expected to take longer are left out. The
            expectation is scaled from the smaller batch size or the narrower block that was
            measured before.
        timing: How each network is timed.
        seed: Seed of the initial weights.
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


@dataclass(frozen=True, slots=True)
class BlockChain:
    """Blocks of one type in a row, with stride 1 and kernel 3, as in Figure 3.

    Attributes:
        width: Channels between XX or BL blocks; for DW the channels of the depth-wise layer.
        ratio: At most 1, and 1 for XX. For DW, as in section 3.2, the channels between blocks
            divided by `width`, which is 1/r of the notation.
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

    def network(self, device: str = "cpu") -> nn.Module:
        """Build the chain: (N, channels between blocks, resolution, resolution) in and out."""
        if self.type == "DW":
            between, block = round(self.width * self.ratio), Block("DW", KERNEL, 1 / self.ratio)
        else:
            between, block = self.width, Block(self.type, KERNEL, self.ratio)
        return BlockProbe(0, block, between, between, 1, 0, DEPTHS[self.type]).network(device)

    def compared_network(self, resolution: int) -> ComparedNetwork:
        return ComparedNetwork(self.name, self.series, resolution, partial(self.network, "meta"))


def make_chains(widths: Iterable[int], ratios: Iterable[float]) -> Iterator[BlockChain]:
    """Make the chains of each width, ascending: XX, then BL and DW with every ratio.

    Raises:
        GenetsError: A ratio or a width is out of range.
    """
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
        for block_type in ("BL", "DW"):
            for ratio in ratios:
                yield BlockChain(block_type, width, ratio)


@dataclass(frozen=True)
class Profile:
    """The rows of each figure.

    Attributes:
        batches: Rows of Figure 2 (a).
        costs: Rows of Figure 2 (b, c).
        blocks: Rows of Figure 3.
        chains: The chain of each network in `blocks`, by name.
    """

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
        """A few words for each series that ends early, by the run limit or a failure."""
        series_ends = []
        for name in self.batches.networks:
            measured = (r for r in self.batches.rows if r.network == name and r.measurement)
            size = max((row.target.batch_size for row in measured), default=0)
            if size < max(self.settings.batch_sizes):
                series_ends.append(f"{name} above batch size {size}")
        for series in dict.fromkeys(chain.series for chain in self.chains.values()):
            chains = (self.chains[row.network] for row in self.blocks.rows if row.measurement)
            width = max((chain.width for chain in chains if chain.series == series), default=0)
            if width < max(self.settings.widths):
                series_ends.append(f"{series} above width {width}")
        return series_ends


def profile(
    settings: ProfileSettings,
    *,
    folder: Path | None = None,
    on_progress: OnProgress | None = None,
    on_unsaved: OnUnsaved | None = None,
) -> Profile:
    """Measure the rows of Figures 2 and 3.

    Args:
        settings: Networks and targets to measure.
        folder: Keeps rows as they finish, in one file for each figure, so that the networks of
            one figure are timed in one run; see `compare`.
        on_progress: Called with the progress of each figure.
        on_unsaved: Called with the path and the error where a file lacks rows because it could not
            be written; see `compare`.

    Returns:
        The rows.

    Raises:
        GenetsError: A name, number or target is wrong, or the rows in `folder` cannot be used.
    """
    _check(settings)
    settings = replace(settings, target=settings.target.resolved())
    chains = list(make_chains(settings.widths, settings.ratios))
    find = partial(find_network, resolution=settings.resolution, seed=settings.seed)
    batch_networks = [find(name) for name in dict.fromkeys(settings.batch_networks)]
    cost_networks = [find(name) for name in dict.fromkeys(settings.cost_networks)]
    settings.target.check()
    with ExitStack() as stack:
        files = {
            name: stack.enter_context(open_rows(folder / f"rows-{name}.json" if folder else None))
            for name in (BATCHES, COSTS, BLOCKS)
        }
        profiler = _Profiler(settings, files, on_progress)
        result = Profile(
            batches=profiler.batches(batch_networks),
            costs=profiler.costs(cost_networks),
            blocks=profiler.blocks(chains),
            chains={chain.name: chain for chain in chains},
            settings=settings,
        )
    for file in files.values():
        file.report(on_unsaved)
    return result


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
        replace(settings.target, batch_size=size)  # raises TargetError for a wrong batch size


@dataclass(frozen=True)
class _Profiler:
    settings: ProfileSettings
    files: Mapping[str, RowFile]
    on_progress: OnProgress | None

    def batches(self, networks: Sequence[ComparedNetwork]) -> Comparison:
        """Batch sizes ascending; a network is dropped when its runs become too long."""
        comparison, sizes = Comparison(), sorted(set(self.settings.batch_sizes))
        total, last_rows = len(networks) * len(sizes), dict[str, ComparisonRow]()
        for number, size in enumerate(sizes):
            target = replace(self.settings.target, batch_size=size)
            quick = [n for n in networks if self._is_quick(last_rows.get(n.name), size, 1.0)]
            rows = self._measure(BATCHES, quick, target, number * len(networks), total)
            last_rows |= {row.network: row for row in rows.rows}
            comparison = comparison.with_rows(rows.rows, rows.references)
        return comparison

    def costs(self, networks: Sequence[ComparedNetwork]) -> Comparison:
        return self._measure(COSTS, networks, self.settings.target, 0, len(networks))

    def blocks(self, chains: Sequence[BlockChain]) -> Comparison:
        """Widths ascending; a series ends when its runs become too long."""
        target, comparison, done = self.settings.target, Comparison(), 0
        last = dict[str, tuple[ComparisonRow, ComparedNetwork]]()  # by series
        for width in sorted({chain.width for chain in chains}):
            of_width = [chain for chain in chains if chain.width == width]
            quick = {}
            for chain in of_width:
                network = chain.compared_network(self.settings.block_resolution)
                row, growth = None, 1.0
                if chain.series in last:
                    row, narrower = last[chain.series]
                    growth = network.size.multiply_adds / narrower.size.multiply_adds
                if self._is_quick(row, target.batch_size, growth):
                    quick[chain.series] = network
            rows = self._measure(BLOCKS, list(quick.values()), target, done, len(chains))
            done += len(of_width)
            by_name = {row.network: row for row in rows.rows}
            last |= {series: (by_name[n.name], n) for series, n in quick.items()}
            comparison = comparison.with_rows(rows.rows, rows.references)
        return comparison

    def _is_quick(self, before: ComparisonRow | None, batch_size: int, growth: float) -> bool:
        """Whether a run should meet the limit, by the row before it in its series."""
        if before is None:
            return True
        if before.ms_per_image is None:
            return False  # a network that failed once will not fit when it is larger
        seconds = before.ms_per_image * growth * batch_size / 1e3
        return seconds <= self.settings.run_limit_s

    def _measure(
        self, name: str, networks: Sequence[ComparedNetwork], target: Target, done: int, total: int
    ) -> Comparison:
        def report(progress: Progress) -> None:
            if self.on_progress:
                is_last = progress.done >= progress.total and done + len(networks) >= total
                now = total if is_last else done + progress.done
                self.on_progress(Progress(name.replace("-", " "), now, total, progress.detail))

        if not networks:
            return Comparison()
        return measure_rows(
            networks, {target: None}, self.settings.timing, self.files[name], report,
            precise="latencies",
        )  # fmt: skip
