"""`genets measure`: the latency of one network on one target."""

from __future__ import annotations

from typing import Annotated, Any

from genets.cli.options import (
    Json,
    Protocol_,
    Resolution,
    Seed,
    check_seconds,
    network_argument,
    option,
)
from genets.cli.target_options import TargetOptions, make_target
from genets.core.errors import counted


def measure(
    network: Annotated[
        str,
        network_argument(
            help="Zoo name, timm:NAME, structure file (.toml), quoted notation or results folder."
        ),
    ],
    target: Annotated[dict[str, Any], TargetOptions()],
    resolution: Resolution = None,
    protocol: Protocol_ = "genets-1",
    time_limit: Annotated[
        float,
        option(
            "Longest time of sampling, in seconds. A result that is not precise after this time is "
            "marked noisy.",
            callback=check_seconds,
        ),
    ] = 10.0,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Measure the latency of a network on a target.

    Shows ms per image with its 95 % interval, percentiles, and images per second. The latency is
    device time with inputs resident and batch norm folded. The time for export, quantisation,
    compiling and loading is reported separately. Where the latency is disturbed and --threads is
    not given, fewer CPU threads are tried, too. With int8, the value ranges come from random
    images, which is enough for a latency; `genets eval` scores int8 with real images.

    \b
    genets measure genet_light --device cuda --precision fp16
    genets measure timm:resnet18 --batch-size 1 --threads 1
    genets measure genet_light --engine openvino --precision int8
    genets measure "Conv3x16s2 XX3x24 DW3x64s2r3 Conv1x128 @32" --json
    """
    chosen = make_target(target)
    # PyTorch is imported only after the options are checked.
    from genets.cli.output import print_remark, print_result
    from genets.latency import measure as measure_network
    from genets.networks import resolve_network
    from genets.report.tables import measurement_table

    chosen.check()
    named = resolve_network(network, seed=seed)
    measurement = measure_network(
        named.network,
        chosen,
        named.resolution if resolution is None else resolution,
        protocol=protocol,
        time_limit_s=time_limit,
    )
    record = {"network": named.name, **measurement.to_json()}
    print_result(json, record, [measurement_table(named.name, measurement)])
    asked, used = chosen.resolved().threads, measurement.target.threads
    if asked != used:
        print_remark(
            f"note: measured on {counted(used or 1, 'CPU thread')} in place of {asked}, "
            f"because the latency on {asked} was disturbed"
        )
    if measurement.disturbed:
        print_remark(
            f"warning: the measurement was disturbed: {' and '.join(measurement.disturbances)}; "
            "measure again when the cause is gone"
        )
