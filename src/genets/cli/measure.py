"""`genets measure`: the latency of one network on one target."""

from typing import Annotated

import typer

from genets.cli.options import (
    BatchSize,
    Device,
    Engine,
    Json,
    Precision,
    Provider,
    Seed,
    Threads,
)


def measure(
    network: Annotated[
        str,
        typer.Argument(help="Zoo name, timm:NAME, structure file (.toml) or quoted notation."),
    ],
    device: Device = None,
    engine: Engine = None,
    provider: Provider = None,
    precision: Precision = None,
    batch_size: BatchSize = None,
    threads: Threads = None,
    resolution: Annotated[
        int | None, typer.Option(help="Input size in pixels.  [default: the network's own]")
    ] = None,
    protocol: Annotated[
        str,
        typer.Option(help="genets-1, or paper: 30 runs, trimmed mean (section 3.2)."),
    ] = "genets-1",
    time_limit: Annotated[
        float, typer.Option(help="Seconds of sampling before the result is called noisy.")
    ] = 10.0,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Measure a network: ms per image with its 95 % interval, percentiles, images per second.

    Device time with inputs resident and batch norm folded; what came before it (export,
    quantisation, compiling, loading) is told apart. int8 takes its ranges from noise here, which
    is enough for a latency: its accuracy is for `genets eval`.

    \b
    genets measure genet_light --device cuda --precision fp16
    genets measure timm:resnet18 --batch-size 1 --threads 1
    genets measure genet_light --engine openvino --precision int8
    genets measure "Conv3x16s2 XX3x24 DW3x64s2r3 Conv1x128 @32" --json
    """
    from genets.cli.options import make_target

    target = make_target(
        {
            "device": device,
            "engine": engine,
            "provider": provider,
            "precision": precision,
            "batch_size": batch_size,
            "threads": threads,
        }
    )
    # From here on with PyTorch, for which no wrong word has to wait.
    import torch

    from genets.cli.output import print_json, print_tables
    from genets.latency import measure as measure_network
    from genets.networks import resolve_network
    from genets.report import measurement_table

    target.check()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        named = resolve_network(network)
    measurement = measure_network(
        named.network,
        target,
        named.resolution if resolution is None else resolution,
        protocol=protocol,
        time_limit_s=time_limit,
    )
    if json:
        print_json({"network": named.name, **measurement.to_json()})
    else:
        print_tables(measurement_table(named.name, measurement))
