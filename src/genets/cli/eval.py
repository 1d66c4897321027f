"""`genets eval`: the accuracy of a network as an engine runs it."""

from typing import Annotated

import typer

from genets.cli.options import BatchSize, Device, Engine, Json, Precision, Provider, Threads


def eval_(
    network: Annotated[
        str,
        typer.Argument(help="Results folder (its weights), or any other NETWORK, untrained."),
    ],
    data: Annotated[str, typer.Option(help="digits, a folder of images, or a timm name.")],
    split: Annotated[str, typer.Option(help="test, validation or train.")] = "test",
    device: Device = None,
    engine: Engine = None,
    provider: Provider = None,
    precision: Precision = None,
    batch_size: BatchSize = None,
    threads: Threads = None,
    resolution: Annotated[
        int | None, typer.Option(help="Input size in pixels.  [default: the network's own]")
    ] = None,
    seed: Annotated[
        int, typer.Option(help="Seed of the validation cut, and of fresh weights.")
    ] = 0,
    json: Json = False,
) -> None:
    """Score a network in an engine and precision, beside PyTorch in fp32 on the same images.

    int8 takes its ranges from images of the training split.

    \b
    genets eval runs/demo/results --data digits
    genets eval runs/demo/results --data digits --engine openvino --precision int8 --json
    """
    from dataclasses import replace

    from genets.cli.networks import calibration_for, named_network, split_of
    from genets.cli.output import print_json, print_tables
    from genets.cli.targets import given, make_target
    from genets.data import load_data
    from genets.latency.accuracy import measure_accuracy
    from genets.report.accuracy_table import accuracy_table

    options = given(
        device=device,
        engine=engine,
        provider=provider,
        precision=precision,
        batch_size=batch_size,
        threads=threads,
    )
    target = make_target(options)
    target.check()
    loaded = named_network(network, seed, data=data, resolution=resolution)
    images = load_data(data, loaded.resolution, seed=seed)
    chosen = split_of(images, split)
    reference = replace(target, engine="torch", precision="fp32", provider=None)
    scores = {
        one.name: measure_accuracy(
            loaded.network,
            one,
            loaded.resolution,
            chosen,
            calibration=calibration_for(one, images),
        )
        for one in dict.fromkeys((target.resolved(), reference.resolved()))
    }
    if json:
        record = {"network": loaded.name, "trained": loaded.trained, "data": images.name}
        accuracies = {name: accuracy.to_json() for name, accuracy in scores.items()}
        print_json(record | {"split": split, "accuracy": accuracies})
    else:
        print_tables(accuracy_table(loaded.name, f"{images.name}, {split}", scores))
