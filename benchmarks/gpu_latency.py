"""The stages of `gpu_campaign` that measure latencies: engines, a table, and comparisons."""

from __future__ import annotations

import copy
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from conditions import RESULTS, ROOT
from genets.analysis import find_networks
from genets.analysis.comparison.compare import compare
from genets.analysis.comparison.findings import rank_correlation
from genets.analysis.comparison.networks import ComparedNetwork
from genets.analysis.comparison.rows import Comparison, Timing
from genets.core.errors import TargetError
from genets.latency import ENGINES, LatencyTable, Target, measure
from genets.networks import build, count
from genets.structure import DesignSpace, zoo
from gpu_session import TINY_MASTER, Session, seconds_per_call

TABLE_SEED, HELD_OUT = 401, 30
COMPILED = (
    "GENet-normal", "GENet-large", "GENet-light", "MobileNetV4-conv-medium", "RepViT-M1.1",
    "EfficientNet-B2", "EfficientNet-B3",
)  # fmt: skip
ENGINES_S = 20.0  # of the first stage, after its tests
PEAK_SIDE = 8192  # of a matrix product that reaches the card's speed


def engines(session: Session) -> None:
    """The outputs of each engine and precision beside fp64 on the CPU, and the tests of GPUs."""
    pixels = TINY_MASTER.resolution if session.tiny else 96
    run_gpu_tests(session)
    rows: list[dict[str, Any]] = []
    structures = {name: zoo[name] for name in ("genet_light", "genet_normal")}
    for name, structure in ({"tiny": TINY_MASTER} if session.tiny else structures).items():
        network = random_norms(build(structure))
        images = torch.randn(4, 3, pixels, pixels, generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            exact = copy.deepcopy(network).double()(images.double())
        for target in runnable_targets(session):
            if target.engine == "torch-compile" and (session.tiny or name != "genet_light"):
                continue  # to compile takes long
            row: dict[str, Any] = {"network": name, "target": target.name}
            try:
                row["largest_error"] = largest_error(network, target, images, exact)
            except TargetError as error:
                row["error"] = str(error)
                session.failures.append(f"{name} on {target.name}: {error}")
            rows.append(row)
            session.store(errors=rows)


def largest_error(network: nn.Module, target: Target, images: Tensor, exact: Tensor) -> float:
    """The largest deviation of an output, as a share of the largest output."""
    engine = ENGINES[target.engine]
    with engine.open(target):
        outputs = engine.prepare(network, target, images.shape[-1]).predict(images).double()
    return float((outputs - exact).abs().max() / exact.abs().max())


@torch.no_grad()
def random_norms(network: nn.Module) -> nn.Module:
    """Give all batch norms other factors than 0 and 1; with 0 a block computes nothing."""
    generator = torch.Generator().manual_seed(2)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.uniform_(0.5, 1.5, generator=generator)
    return network.eval()


def runnable_targets(session: Session) -> Iterator[Target]:
    for name, engine in ENGINES.items():
        for precision in engine.precisions:
            if precision == "int8":
                continue
            try:
                target = Target(session.device, name, precision, batch_size=4)
                target.check()
            except TargetError:
                continue
            yield target


def run_gpu_tests(session: Session) -> None:
    """Store the results of the tests with the mark `gpu`, which leave ENGINES_S for the engines."""
    files = [path for path in sorted((ROOT / "tests").rglob("test_*.py"))
             if re.search(r"mark\.gpu", path.read_text(encoding="utf-8"))]  # fmt: skip
    if session.tiny:
        files = [path for path in files if path.parent.name == "training"]
    words = [sys.executable, "-m", "pytest", "-m", "gpu", "-p", "no:xdist", "-vv", *map(str, files)]
    limit_s = max(1.0, session.seconds_left - ENGINES_S)
    try:
        run = subprocess.run(
            words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=limit_s
        )
        output, exit_status = run.stdout, run.returncode
    except subprocess.TimeoutExpired as error:
        output, exit_status = error.stdout or b"", None
    tests = summarise_tests(output.decode(errors="replace"), exit_status)
    if exit_status is None:
        session.failures.append(f"the GPU tests did not end in {limit_s:.0f} s")
    elif exit_status != 0:
        session.failures.append(
            f"the GPU tests ended with exit status {exit_status}: {tests['last_line']!r}"
        )
    elif not session.is_cpu and "passed" not in tests["results"]:
        session.failures.append(f"no GPU test ran: {tests['last_line']!r}")
    session.store(tests=tests)


def summarise_tests(output: str, exit_status: int | None) -> dict[str, Any]:
    """The numbers of the results that pytest printed with -v, and the tests that did not pass.

    The exit status is None where the tests were stopped.
    """
    results = re.findall(r"^(\S+::.+?) (PASSED|FAILED|ERROR|SKIPPED)\b", output, re.MULTILINE)
    return {
        "complete": exit_status is not None,
        "exit_status": exit_status,
        "results": dict(Counter(result.lower() for _, result in results)),
        "failed": [test for test, result in results if result in ("FAILED", "ERROR")],
        "last_line": ([""] + [line for line in output.splitlines() if line.strip()])[-1],
    }


def table(session: Session) -> None:
    """The table of genet_normal's default space at 192 pixels, and its held-out error.

    The finished timings of a table that is interrupted stay in results/gpu/table.visits.jsonl.
    """
    master = TINY_MASTER if session.tiny else zoo["genet_normal"]
    blocks = DesignSpace().blocks[: 1 if session.tiny else None]
    reported = [time.perf_counter()]

    def report(share: float) -> None:
        if time.perf_counter() - reported[0] > 5:
            reported[0] = time.perf_counter()
            session.store(share_done=share)

    visits = RESULTS / "gpu" / "table.visits.jsonl"
    visits.parent.mkdir(parents=True, exist_ok=True)
    visits.unlink(missing_ok=True)  # of an earlier campaign
    start = time.perf_counter()
    made = LatencyTable.build(
        master,
        DesignSpace(blocks=blocks, resolutions=()),
        session.target(8 if session.tiny else 64),
        10 if session.tiny else 1000,
        seed=TABLE_SEED,
        time_limit_s=0.5 if session.tiny else 45.0,
        held_out=2 if session.tiny else HELD_OUT,
        on_progress=report,
        visits=visits,
    )
    visits.unlink(missing_ok=True)
    session.store(
        share_done=1.0,
        master=str(master),
        target=made.target.to_json(),
        whole_seconds=time.perf_counter() - start,
        seconds_by_step=dict(made.seconds),
        rmspe=made.rmspe,
        timed_pieces=len(made.timed_ms),
        held_out=[{"predicted": p, "timed": t} for p, t in made.held_out_ms_per_image],
        table_environment=dict(made.environment),
    )


def table7(session: Session) -> None:
    """The networks of the paper's Table 7 at batch sizes 1 and 64, in turn."""
    names = (str(TINY_MASTER), "genet_light") if session.tiny else ()
    networks = find_networks(
        names, None if session.tiny else "paper34", 32 if session.tiny else None
    )
    targets = [session.target(size) for size in ((1, 2) if session.tiny else (1, 64))]

    def store(comparison: Comparison) -> None:
        correlations = {t.name: rank_correlation(comparison.on(t)) for t in targets}
        session.store(
            rank_correlation_with_the_paper={
                name: each.spearman for name, each in correlations.items() if each
            },
            rows=[row.summary() for row in comparison.rows],
        )

    timing = Timing(time_limit_s=0.05 if session.tiny else 0.3)
    comparison = compare(networks, targets, timing=timing, on_rows=store)
    session.failures += [
        f"{row.network} on {row.target.name}: {row.error}" for row in comparison.rows if row.error
    ]


def compiled(session: Session) -> None:
    """Networks in torch-compile, with the share of the card's speed that they reach."""
    target = session.target(2 if session.tiny else 64, "torch-compile")
    peak = peak_tflops(session)
    rows: list[dict[str, Any]] = []
    session.store(peak_tflops=peak, rows=rows)
    for network in find_networks([str(TINY_MASTER)] if session.tiny else COMPILED):
        rows.append({"network": network.name, **compiled_row(session, network, target, peak)})
        if "error" in rows[-1]:
            session.failures.append(f"{network.name}: {rows[-1]['error']}")
        session.store(rows=rows)


def compiled_row(
    session: Session, network: ComparedNetwork, target: Target, peak: float
) -> dict[str, Any]:
    pixels, net = network.resolution, network.network(target.device)
    try:
        measured = measure(net, target, pixels, time_limit_s=0.1 if session.tiny else 1.0)
    except TargetError as error:
        return {"error": str(error)}
    multiply_adds = count(net, pixels).multiply_adds
    tflops = 2 * multiply_adds / measured.ms_per_image / 1e9
    names = ("ms_per_image", "low_ms_per_image", "high_ms_per_image", "noisy", "disturbed")
    return {
        "resolution": pixels,
        **{name: getattr(measured, name) for name in names},
        "multiply_adds": multiply_adds,
        "tflops": tflops,
        "share_of_peak": tflops / peak,
        "launch_share": measured.launch_share,
        "prepare_seconds": measured.seconds,
        "environment": measured.environment,
    }


def peak_tflops(session: Session) -> float:
    """The speed of a large matrix product in the precision of the target."""
    side = 256 if session.tiny else PEAK_SIDE
    dtype = torch.float32 if session.is_cpu else torch.float16
    a, b = (torch.randn(side, side, device=session.device, dtype=dtype) for _ in range(2))
    seconds = seconds_per_call(session, lambda: a @ b, 20)
    return 2 * side**3 / seconds / 1e12
