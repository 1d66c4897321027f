"""Convolutions, multiply-adds and parameters, in closed form (no network is built).

The multiply-adds are those that a FLOP counter sees in the built network: convolutions and
projection shortcuts. Batch norm, activations and sums count as zero. The layers of a user's own
block type are counted once, in its deployed form.
"""

from collections.abc import Iterator

from genets.structure.block import BLOCK_TYPES, SuperBlock
from genets.structure.layers import Convolution, divisible
from genets.structure.structure import IMAGE_CHANNELS, Structure


def stage_multiply_adds(stage: SuperBlock, input_width: int, input_resolution: int) -> int:
    """Multiply-adds of one stage for one image.

    Args:
        stage: the stage.
        input_width: input channels of the stage.
        input_resolution: pixels along one side of its input feature map.
    """
    first = _block_multiply_adds(stage, input_width, stage.stride, input_resolution)
    if stage.depth == 1:
        return first
    inner = output_resolution(stage, input_resolution)
    return first + (stage.depth - 1) * _block_multiply_adds(stage, stage.width, 1, inner)


def multiply_adds(structure: Structure, num_classes: int = 0) -> int:
    """Multiply-adds of the network for one image.

    Args:
        structure: the structure.
        num_classes: outputs of the classifier; with 0 the classifier is not counted.
    """
    total, width = 0, IMAGE_CHANNELS
    for stage, resolution in zip(structure.stages, input_resolutions(structure), strict=True):
        total += stage_multiply_adds(stage, width, resolution)
        width = stage.width
    return total + width * num_classes


def kernel_weights(structure: Structure) -> int:
    """The number of weights of all convolutions, without those of a user's own block types.

    With a resolution of one pixel, each weight is used in one multiply-add.
    """
    widths = (IMAGE_CHANNELS, *(stage.width for stage in structure.stages))
    return sum(
        stage_multiply_adds(stage, width, 1)
        for stage, width in zip(structure.stages, widths, strict=False)
        if BLOCK_TYPES[stage.type].layers_at is None
    )


def parameters(structure: Structure, num_classes: int) -> int:
    """Parameters of a network of the paper's block types, with batch norms and classifier.

    Args:
        structure: the structure, without block types of a user.
        num_classes: outputs of the classifier.
    """
    outputs, width = 0, IMAGE_CHANNELS
    for stage in structure.stages:
        assert BLOCK_TYPES[stage.type].layers_at is None, "not known for a user's own block type"
        # Each output channel of a convolution has two parameters in a batch norm.
        outputs += sum(each.outputs for each in stage_convolutions(stage, width, 1))
        width = stage.width
    return kernel_weights(structure) + 2 * outputs + (width + 1) * num_classes


def output_resolution(stage: SuperBlock, input_resolution: int) -> int:
    """Pixels along one side of the output feature map of the stage."""
    return -(-input_resolution // stage.stride)


def input_resolutions(structure: Structure) -> Iterator[int]:
    """For each stage, the pixels along one side of its input feature map."""
    resolution = structure.resolution
    for stage in structure.stages:
        yield resolution
        resolution = output_resolution(stage, resolution)


def middle_width(stage: SuperBlock) -> int:
    """Inner channels of a BL or DW block: ratio times width, rounded as timm does."""
    return int(divisible(stage.width * stage.ratio))


def structure_convolutions(structure: Structure) -> Iterator[Convolution]:
    """Yield the convolutions of a network, in the order in which they run."""
    width = IMAGE_CHANNELS
    for stage, resolution in zip(structure.stages, input_resolutions(structure), strict=True):
        yield from stage_convolutions(stage, width, resolution)
        width = stage.width


def stage_convolutions(
    stage: SuperBlock, input_width: int, input_resolution: int
) -> Iterator[Convolution]:
    """Yield the convolutions of one stage.

    Args:
        stage: The stage.
        input_width: Input channels of the stage.
        input_resolution: Pixels along one side of its input feature map.
    """
    yield from block_convolutions(stage, input_width, stage.stride, input_resolution)
    if stage.depth > 1:
        inner = output_resolution(stage, input_resolution)
        further = block_convolutions(stage, stage.width, 1, inner)
        for _ in range(stage.depth - 1):
            yield from further


def block_convolutions(
    stage: SuperBlock, input_width: int, stride: int, resolution: int
) -> list[Convolution]:
    """The convolutions of one block of a stage.

    Args:
        stage: The stage; its stride and depth do not count.
        input_width: Input channels of the block.
        stride: The stride of the block.
        resolution: Pixels along one side of its input feature map.
    """
    width, window, side = stage.width, stage.kernel**2, -(-resolution // stride)
    layers_at = BLOCK_TYPES[stage.type].layers_at
    if layers_at is not None:
        layers = layers_at(stage.block, stride, resolution).at(input_width, width)
        return [layer.at(input_width, width) for layer in layers]
    if stage.type == "Conv":
        return [Convolution(input_width, width, input_width, window, resolution, side)]
    convolutions = []
    if input_width != width or stride != 1:  # the projection of the shortcut
        convolutions.append(Convolution(input_width, width, input_width, 1, resolution, side))
    if stage.type == "XX":
        return [
            *convolutions,
            Convolution(input_width, width, input_width, window, resolution, side),
            Convolution(width, width, width, window, side, side),
        ]
    middle = middle_width(stage)
    per_group = 1 if stage.type == "DW" else middle
    # The first 1x1 still reads the full feature map: the k x k layer carries the stride.
    return [
        *convolutions,
        Convolution(input_width, middle, input_width, 1, resolution, resolution),
        Convolution(middle, middle, per_group, window, resolution, side),
        Convolution(middle, width, middle, 1, side, side),
    ]


def _block_multiply_adds(stage: SuperBlock, input_width: int, stride: int, resolution: int) -> int:
    convolutions = block_convolutions(stage, input_width, stride, resolution)
    return sum(each.multiply_adds for each in convolutions)
