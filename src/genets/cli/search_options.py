"""The options of `genets search`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Out = Annotated[Path, typer.Option(help="Folder of the study, new or to go on with.")]
Data = Annotated[
    str | None, typer.Option(help="Name of a data set (digits), or a folder of images.")
]
Budget = Annotated[
    str | None,
    typer.Option(help="ms or us per image, or times the MasterNet: 0.2ms, 150us, 0.5x."),
]
Preset = Annotated[str | None, typer.Option(help="quick or paper.  [default: quick]")]
SettingsFile = Annotated[
    Path | None, typer.Option(help="TOML file of settings; options override it.")
]
Master = Annotated[
    str | None,
    typer.Option(help="MasterNet: zoo name, file or notation.  [default: master_small]"),
]
MasterNet = Annotated[
    str | None,
    typer.Option(
        help="Structures to choose the MasterNet from, as net1,net2: each is trained, the best "
        "is taken."
    ),
]
Resolution = Annotated[
    int | None, typer.Option(help="Input size in pixels.  [default: the MasterNet's]")
]
Resolutions = Annotated[
    str | None,
    typer.Option(
        help="Further input sizes, as 12,16,20: the best of each is selected under the same "
        "budget and trained."
    ),
]
Blocks = Annotated[str | None, typer.Option(help="Blocks to choose from, as XX3,BL3r0.25,DW5r6.")]
WidthRange = Annotated[
    tuple[float, float] | None,
    typer.Option(help="Least and largest width of super-blocks, times the MasterNet's."),
]
StemWidthRange = Annotated[
    tuple[float, float] | None,
    typer.Option(help="The same of the stem.  [default: 1 1, as it is]"),
]
HeadWidthRange = Annotated[
    tuple[float, float] | None,
    typer.Option(help="The same of the head.  [default: 1 1, as it is]"),
]
WidthStep = Annotated[int | None, typer.Option(help="Widths are multiples of this, and of 8.")]
DepthChange = Annotated[int | None, typer.Option(help="Blocks that may be added or taken away.")]
TrialsEach = Annotated[
    int | None,
    typer.Option(help="Trials for each super-block, without controls.  [default: 14]"),
]
ControlsEach = Annotated[
    int | None, typer.Option(help="Control trials for each super-block.  [default: 2]")
]
Trials = Annotated[
    str | None,
    typer.Option(
        help="together: four share batches and what is frozen; separate: each alone, as in the "
        "paper."
    ),
]
Thaw = Annotated[
    str | None,
    typer.Option(
        help="What a trial trains: after (the new super-block and all that follows), block (that "
        "alone) or all."
    ),
]
Sampling = Annotated[
    str | None,
    typer.Option(help="design: trials that tell the most; random: pure chance, as in the paper."),
]
MasterEpochs = Annotated[int | None, typer.Option(help="Epochs that the MasterNet is trained.")]
TrialEpochs = Annotated[int | None, typer.Option(help="Epochs of one trial.")]
FinalEpochs = Annotated[int | None, typer.Option(help="Epochs that the winner is trained.")]
Metric = Annotated[
    str | None,
    typer.Option("--metric", "--response", help="Metric to predict: cross_entropy or top1."),
]
Regression = Annotated[
    str | None, typer.Option(help="bayes, or paper: the literal formula of section 4.2.")
]
Selection = Annotated[str | None, typer.Option(help="exact, or random: sampling, as in the paper.")]
Confirm = Annotated[
    int | None,
    typer.Option(help="Candidates trained to choose the winner among; 1 is none.  [default: 4]"),
]
ConfirmEpochs = Annotated[
    int | None, typer.Option(help="Epochs that each candidate is trained.  [default: 36]")
]
Rounds = Annotated[
    int | None,
    typer.Option(
        help="Rounds of trials; each after the first moves the MasterNet to the best candidate.  "
        "[default: 1]"
    ),
]
Seed = Annotated[int | None, typer.Option(help="Seed of everything.  [default: 0]")]
Workers = Annotated[
    int | None, typer.Option(min=1, help="Processes that train.  [default: chosen]")
]
