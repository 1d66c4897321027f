"""Block types of the user's own: a Python file that registers them.

The layers of a block type of the user's own, read off blocks that were built.

A latency table and the accuracy model ask for the cost of a block at thousands of pairs of
widths. So a block is built at a few widths only, without memory or arithmetic (torch's meta
device), and how the channels of its convolutions follow from the two widths is solved for.
"""

from __future__ import annotations

import hashlib
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from timm.models import byobnet, reparameterize_model
from torch import Tensor, nn

from genets.core.errors import BlockFileError, GenetsError, shown
from genets.core.files import write_atomic
from genets.networks.build import BLOCKS, build
from genets.structure import BLOCK_TYPES, Block, BlockType, Structure, SuperBlock
from genets.structure.layers import BlockLayers, Channels, Layer

MAX_RATIO = 64
_NAME = re.compile(r"[A-Z][A-Za-z]{0,30}")
_MARK = "#sha256="  # between the path and the digest of a file, as in pip's requirements


@dataclass(frozen=True, slots=True)
class BlockFile:
    """A file that was loaded: its absolute path, the SHA-256 of its content, and its types."""

    path: Path
    digest: str
    content: bytes
    types: tuple[str, ...]

    def __str__(self) -> str:
        """What a study keeps: `load_blocks` takes it, and refuses a file that has changed."""
        return f"{self.path}{_MARK}{self.digest}"

    def copy_to(self, folder: Path) -> None:
        """Keep what the file held; another file of its name in `folder` is left alone."""
        path = folder / self.path.name
        if path.exists() and path.read_bytes() != self.content:
            path = folder / f"{self.path.stem}-{self.digest[:12]}.py"
        write_atomic(path, self.content)


_loaded: dict[str, BlockFile] = {}  # by digest


def register_block(
    name: str,
    block: Callable[..., nn.Module],
    *,
    ratios: tuple[float, float] = (1, 1),
    layers: str = "",
) -> None:
    """Make `block` a block type, under `name` in notations, files and design spaces.

    name: letters, the first one upper case, the last one not x, as `RepVGG` in `RepVGG3x64s2`.
    block: a class or function that timm's `register_block` takes; it is called as
        `block(in_chs, out_chs, kernel_size=, stride=, dilation=, group_size=None,
        bottle_ratio=, downsample=, drop_block=, drop_path_rate=, layers=, device=, dtype=)`, where
        bottle_ratio is the ratio of the notation, and maps (N, in_chs, H, W) to
        (N, out_chs, ceil(H / stride), ceil(W / stride)). What has a `reparameterize` method is
        merged by it before it is counted, timed or exported.
    ratios: least and largest ratio; of a block without an inner width (1, 1).
    layers: a few words for readers.
    Raises GenetsError: a name that is taken or malformed, or a block that does not do this.
    """
    _check(name, block, ratios)
    low, high = float(ratios[0]), float(ratios[1])
    rule = "exactly 1" if low == high == 1 else f"from {low:g} to {high:g}"
    with _all_or_nothing():
        byobnet.register_block(f"genets.{name}", block)  # type: ignore[arg-type]  # timm's hint
        BLOCKS[name] = partial(byobnet.ByoBlockCfg, f"genets.{name}")
        BLOCK_TYPES[name] = BlockType(
            name, layers or "the user's own", rule, lambda r: low <= r <= high, cache(read_layers)
        )
        _try(Block(name, 3, low))


def load_blocks(file: str | Path) -> BlockFile:
    """Run a Python file that calls `register_block`; once, however often it is asked for.

    file: its path, or what `BlockFile` writes; then a file that has changed is refused, and one
        that is gone is done without if the same was loaded from elsewhere.
    It is run as any Python file is, so it can do anything: load only files that you trust.
    Raises BlockFileError: the file is missing, fails, registers nothing or what exists already.
    """
    place, _, expected = str(file).partition(_MARK)
    path = Path(place).absolute()
    if path.suffix != ".py":
        raise BlockFileError(f"block file {place!r} must be a Python file, whose name ends in .py")
    if expected in _loaded and not path.exists():
        return replace(_loaded[expected], path=path)
    try:
        content = path.read_bytes()
    except OSError as error:
        cure = "; a copy, such as the study's, may be given as genets --own-blocks COPY" * bool(
            expected
        )
        raise BlockFileError(f"cannot read block file {place!r}: {error.strerror}{cure}") from error
    digest = hashlib.sha256(content).hexdigest()
    if expected and digest != expected:
        raise BlockFileError(
            f"block file {place!r} is not what it was when the study began (SHA-256 "
            f"{expected[:12]}... then, {digest[:12]}... now); bring back its content, of which "
            "the study folder has a copy, or begin another study"
        )
    if digest in _loaded:
        return replace(_loaded[digest], path=path)
    with _all_or_nothing():
        _forget(path)
        before = set(BLOCK_TYPES)
        _run(path, content, digest)
        types = tuple(name for name in BLOCK_TYPES if name not in before)
        if not types:
            raise BlockFileError(
                f"block file {place!r} registers no block type; it must call "
                "genets.register_block(NAME, BLOCK)"
            )
        _loaded[digest] = BlockFile(path, digest, content, types)
    return _loaded[digest]


def where_loaded(files: Iterable[str]) -> tuple[str, ...]:
    """The same files, as `BlockFile` writes them, where this process has read each."""
    return tuple(str(_loaded[load_blocks(file).digest]) for file in files)


def files_of(types: Iterable[str]) -> tuple[BlockFile, ...]:
    """The files that were loaded for these block types.

    Raises BlockFileError where a type was registered without a file: another process, which a
    search needs, could not know it.
    """
    wanted = [name for name in dict.fromkeys(types) if BLOCK_TYPES[name].layers_at is not None]
    found = [file for file in _loaded.values() if set(file.types) & set(wanted)]
    homeless = set(wanted) - {name for file in found for name in file.types}
    if homeless:
        raise BlockFileError(
            f"block type {min(homeless)} was registered without a file; a search needs the file "
            "that registers it, loaded with genets.load_blocks(FILE)"
        )
    return tuple(found)


def _check(name: str, block: object, ratios: object) -> None:
    if not isinstance(name, str) or not _NAME.fullmatch(name) or name.endswith("x"):
        raise GenetsError(
            "name of a block type must be letters, at most 31, the first one upper case and the "
            f"last one not x, not {shown(name)}"
        )
    same = next((known for known in BLOCK_TYPES if known.lower() == name.lower()), None)
    if same is not None and same not in _notebook_types():
        raise GenetsError(f"block type {name} exists already{_origin(same)}; take another name")
    if not callable(block):
        raise GenetsError(f"block of {name} must be a class or function, not {shown(block)}")
    match ratios:
        case (int() | float() as low, int() | float() as high) if 0 < low <= high <= MAX_RATIO:
            return
    raise GenetsError(
        f"ratios of {name} must be the least and the largest, above 0 and at most {MAX_RATIO}, "
        f"not {shown(ratios)}"
    )


def _notebook_types() -> set[str]:
    """Types that were registered without a file; a cell that does so may be run again."""
    filed = {name for file in _loaded.values() for name in file.types}
    return {n for n, t in BLOCK_TYPES.items() if t.layers_at is not None and n not in filed}


def _origin(name: str) -> str:
    file = next((file for file in _loaded.values() if name in file.types), None)
    return "" if file is None else f" (of {file.path})"


def _try(block: Block) -> None:
    """Run two blocks of a new type, without memory or arithmetic, at an odd resolution."""
    with torch.device("meta"), torch.no_grad():
        try:
            stage = block_stage(block, 16, 24, stride=2, depth=2).eval()
            received = tuple(stage(torch.empty(2, 16, 7, 7, device="meta")).shape)
            read_layers(block, 1, 7)
        except GenetsError:
            raise
        except Exception as error:  # the user's code may raise anything
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise GenetsError(
                f"block type {block.type} cannot be built and run: {reason}"
            ) from error
    if received != (2, 24, 4, 4):
        raise GenetsError(
            f"block type {block.type} of 24 channels and stride 2 must map (2, 16, 7, 7) to "
            f"(2, 24, 4, 4), not to {received}"
        )


def _run(path: Path, content: bytes, digest: str) -> None:
    module = ModuleType(f"genets_blocks_{digest[:12]}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # dataclasses and others look their module up
    try:
        exec(compile(content, str(path), "exec"), vars(module))
    except GenetsError as error:
        raise BlockFileError(f"block file {str(path)!r}: {error}") from error
    except (Exception, SystemExit) as error:
        frames = traceback.extract_tb(error.__traceback__)
        own = [frame.lineno for frame in frames if frame.filename == str(path)]
        line = error.lineno if isinstance(error, SyntaxError) else own[-1] if own else None
        raise BlockFileError(f"block file {str(path)!r}, line {line}: {_reason(error)}") from error


def _reason(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _forget(path: Path) -> None:
    """Of a file that was edited, the types of its old content make room for the new ones."""
    for file in [file for file in _loaded.values() if file.path == path]:
        del _loaded[file.digest]
        for name in file.types:
            del BLOCK_TYPES[name], BLOCKS[name]


@contextmanager
def _all_or_nothing() -> Iterator[None]:
    """A failure leaves the types as they were."""
    tables: tuple[dict[str, Any], ...] = (BLOCK_TYPES, BLOCKS, _loaded)
    before = [dict(table) for table in tables]
    try:
        yield
    except BaseException:
        for table, old in zip(tables, before, strict=True):
            table.clear()
            table.update(old)
        raise


# Input width and width. Multiples of 64, where inner widths need no rounding at usual ratios.
CHANGING = ((128, 256), (192, 256), (128, 320))
KEEPING = ((128, 128), (192, 192))

# Of one convolution: inputs, outputs, inputs of a group; then window, side_in, side_out.
_Seen = tuple[tuple[int, int, int], tuple[int, int, int]]


def read_layers(block: Block, stride: int, resolution: int) -> BlockLayers:
    """The convolutions of a block in its deployed form.

    resolution: pixels along one side of what the block reads. Raises GenetsError if the block
    runs no convolution, or others at other widths.
    """
    return BlockLayers(
        *(
            _solve(block, widths, [_run_block(block, *pair, stride, resolution) for pair in widths])
            for widths in (CHANGING, KEEPING)
        )
    )


def block_stage(
    block: Block, input_width: int, width: int, stride: int, depth: int = 1
) -> nn.Sequential:
    """A super-block as it stands in a network, with fresh weights."""
    own = SuperBlock(block.type, depth, width, stride, block.kernel, block.ratio)
    stem = SuperBlock("Conv", 1, input_width, stride=2)
    # Only `own` is used; ByobNet wants a second super-block and a head.
    end = (SuperBlock("XX", 1, 8, kernel=1), SuperBlock("Conv", 1, 8, kernel=1))
    stage: nn.Sequential = build(Structure((stem, own, *end), resolution=64), 1).stages[0]
    return stage


def _run_block(
    block: Block, input_width: int, width: int, stride: int, resolution: int
) -> list[_Seen]:
    """The convolutions of the deployed block in the order in which they run."""
    with torch.device("meta"):
        trained = block_stage(block, input_width, width, stride).eval()
        stage = reparameterize_model(trained, inplace=True)
    seen: list[_Seen] = []

    def note(conv: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        assert isinstance(conv, nn.Conv2d)
        outputs, per_group, *window = conv.weight.shape
        channels = (conv.in_channels, outputs, per_group)
        seen.append((channels, (window[0] * window[1], inputs[0].shape[-1], output.shape[-1])))

    for module in stage.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(note)
    with torch.no_grad():
        stage(torch.empty(1, input_width, resolution, resolution, device="meta"))
    return seen


def _solve(
    block: Block, widths: Sequence[tuple[int, int]], seen: Sequence[list[_Seen]]
) -> tuple[Layer, ...]:
    if not seen[0]:
        raise GenetsError(f"{block} runs no nn.Conv2d, from which its costs are counted")
    if any([sizes for _, sizes in one] != [sizes for _, sizes in seen[0]] for one in seen):
        raise GenetsError(f"{block} has other layers at other widths; its costs cannot be counted")
    equations = np.array([[*pair, 1.0] for pair in widths])
    if len(widths) == len(KEEPING):
        equations[:, 0] = 0  # input width and width are the same; all is put down to the latter
    layers = []
    for convolutions in zip(*seen, strict=True):
        counts = np.array([channels for channels, _ in convolutions], np.float64)
        solved = np.linalg.lstsq(equations, counts)[0].T.round(6)
        inputs, outputs, per_group = (Channels(*map(float, line)) for line in solved)
        layers.append(Layer(inputs, outputs, per_group, *convolutions[0][1]))
    return tuple(layers)
