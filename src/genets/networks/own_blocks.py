"""Own block types: Python functions and files of users that register them."""

from __future__ import annotations

import hashlib
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from timm.models import byobnet
from torch import nn

from genets.core.errors import BlockFileError, GenetsError, first_line, shown
from genets.core.files import write_atomic
from genets.networks.block_layers import block_stage, read_layers
from genets.networks.build import BLOCKS
from genets.structure import BLOCK_TYPES, Block, BlockType, SearchSpace

MAX_RATIO = 64
_NAME = re.compile(r"[A-Z][A-Za-z]{0,30}")
_MARK = "#sha256="  # separates the path and the digest of a file, as in pip's requirements


@dataclass(frozen=True, slots=True)
class BlockFile:
    """A block file that was loaded.

    Attributes:
        path: Its absolute path.
        digest: The SHA-256 of its content.
        content: Its content.
        types: The names of the block types that it registered.
    """

    path: Path
    digest: str
    content: bytes
    types: tuple[str, ...]

    def __str__(self) -> str:
        """The path and the digest; `load_blocks` then refuses a file that has changed."""
        return f"{self.path}{_MARK}{self.digest}"

    def copy_to(self, folder: Path) -> None:
        """Write the content into a folder, beside another file of the same name if there is one."""
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
    """Register an own block type, for notations, structure files and design spaces.

    Args:
        name: Letters, the first one upper case and the last one not x, such as `RepVGG` in
            `RepVGG3x64s2`.
        block: A class or function that timm's `register_block` accepts. It is called as
            `block(in_chs, out_chs, kernel_size=, stride=, dilation=, group_size=None,
            bottle_ratio=, downsample=, drop_block=, drop_path_rate=, layers=, device=, dtype=)`,
            where bottle_ratio is the ratio of the notation. Its module maps (N, in_chs, H, W) to
            (N, out_chs, ceil(H / stride), ceil(W / stride)). A module with a `reparameterize`
            method is merged by this method before it is counted, timed or exported.
        ratios: The smallest and the largest ratio; (1, 1) for a block without an inner width.
        layers: A few words that describe the block.

    Raises:
        GenetsError: The name is taken or malformed, or the block does not work as described.
    """
    _check(name, block, ratios)
    low, high = float(ratios[0]), float(ratios[1])
    rule = "exactly 1" if low == high == 1 else f"from {low:g} to {high:g}"
    with _all_or_nothing():
        byobnet.register_block(f"genets.{name}", block)  # type: ignore[arg-type]  # timm's hint
        BLOCKS[name] = partial(byobnet.ByoBlockCfg, f"genets.{name}")
        BLOCK_TYPES[name] = BlockType(
            name,
            layers or "an own block",
            rule,
            lambda r: low <= r <= high,
            cache(read_layers),
        )
        _try(Block(name, 3, low))


def load_blocks(file: str | Path) -> BlockFile:
    """Run a Python file that calls `register_block`; the same content is run only once.

    The file runs as any Python file does and can do anything: load only files that you trust.

    Args:
        file: The path, or the text of a `BlockFile`. With the latter a changed file is refused,
            and a missing file is accepted if the same content is already loaded.

    Returns:
        The file with the names of its block types.

    Raises:
        BlockFileError: The file is missing, fails, registers no block type, or registers a name
            that is taken.
    """
    place, _, expected = str(file).partition(_MARK)
    path = Path(place).absolute()
    if path.suffix != ".py":
        raise BlockFileError(f"block file {place!r} must be a Python file (.py)")
    if expected in _loaded and not path.exists():
        return replace(_loaded[expected], path=path)
    try:
        content = path.read_bytes()
    except OSError as error:
        cure = "; a copy, such as the study's, can be given as genets --own-blocks COPY"
        cure = cure if expected else ""
        raise BlockFileError(f"cannot read block file {place!r}: {error.strerror}{cure}") from error
    digest = hashlib.sha256(content).hexdigest()
    if expected and digest != expected:
        raise BlockFileError(
            f"block file {place!r} has changed since the study began (SHA-256 {expected[:12]}... "
            f"then, {digest[:12]}... now); restore it from the copy in the study folder, or begin "
            "another study"
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


def move_block_file(file: str, move: Callable[[Path], Path]) -> str:
    """Give the text of a `BlockFile` for another place, from which it need not be loaded yet.

    Args:
        file: The text, with or without the digest.
        move: Gives the other place of the path.
    """
    place, mark, digest = file.partition(_MARK)
    return f"{move(Path(place))}{mark}{digest}"


def loaded_block_files(files: Iterable[str]) -> tuple[str, ...]:
    """The texts of the files, with the paths from which this process loaded them."""
    return tuple(str(_loaded[load_blocks(file).digest]) for file in files)


def find_block_files(types: Iterable[str]) -> tuple[BlockFile, ...]:
    """The files that registered these block types.

    Raises BlockFileError where a type was registered without a file, because the other processes
    of a search could not load it.
    """
    own_types = {name for name in types if BLOCK_TYPES[name].layers_at is not None}
    files = [file for file in _loaded.values() if own_types & set(file.types)]
    without_file = own_types - {name for file in files for name in file.types}
    if without_file:
        raise BlockFileError(
            f"block type {min(without_file)} was registered without a file; a search needs the "
            "file that registers it, loaded with genets.load_blocks(FILE)"
        )
    return tuple(files)


def block_digests(space: SearchSpace) -> dict[str, str]:
    """The SHA-256 of the file of each own block type of a search space, by type.

    A type that was registered without a file is left out.
    """
    types = {stage.type for stage in space.master.stages}
    types |= {block.type for block in space.space.blocks}
    digests = {name: file.digest for file in _loaded.values() for name in file.types}
    return {name: digests[name] for name in sorted(types & digests.keys())}


def _check(name: str, block: object, ratios: object) -> None:
    if not isinstance(name, str) or not _NAME.fullmatch(name) or name.endswith("x"):
        raise GenetsError(
            "name of a block type must be letters, at most 31, the first one upper case and the "
            f"last one not x, not {shown(name)}"
        )
    same = next((other for other in BLOCK_TYPES if other.lower() == name.lower()), None)
    if same is not None and same not in _notebook_types():
        raise GenetsError(f"block type {name} exists already{_origin(same)}; take another name")
    if not callable(block):
        raise GenetsError(f"block of {name} must be a class or function, not {shown(block)}")
    match ratios:
        case (int() | float() as low, int() | float() as high) if 0 < low <= high <= MAX_RATIO:
            return
    raise GenetsError(
        f"ratios of {name} must be the smallest and the largest, above 0 and at most {MAX_RATIO}, "
        f"not {shown(ratios)}"
    )


def _notebook_types() -> set[str]:
    """Types that were registered without a file; a notebook may register them again."""
    filed = {name for file in _loaded.values() for name in file.types}
    return {n for n, t in BLOCK_TYPES.items() if t.layers_at is not None and n not in filed}


def _origin(name: str) -> str:
    file = next((file for file in _loaded.values() if name in file.types), None)
    return "" if file is None else f" (of {file.path})"


def _try(block: Block) -> None:
    """Run two blocks of a new type at an odd resolution, on torch's meta device."""
    with torch.device("meta"), torch.no_grad():
        try:
            stage = block_stage(block, 16, 24, stride=2, depth=2).eval()
            received = tuple(stage(torch.empty(2, 16, 7, 7, device="meta")).shape)
            read_layers(block, 1, 7)
        except GenetsError:
            raise
        except Exception as error:  # the user's code may raise anything
            raise GenetsError(
                f"block type {block.type} cannot be built and run: {first_line(error)}"
            ) from error
    if received != (2, 24, 4, 4):
        raise GenetsError(
            f"block type {block.type} with 24 channels and stride 2 must map (2, 16, 7, 7) to "
            f"(2, 24, 4, 4), not to {received}"
        )


def _run(path: Path, content: bytes, digest: str) -> None:
    module = ModuleType(f"genets_blocks_{digest[:12]}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # dataclasses look up their module there
    try:
        exec(compile(content, str(path), "exec"), vars(module))
    except GenetsError as error:
        raise BlockFileError(f"block file {str(path)!r}: {error}") from error
    except (Exception, SystemExit) as error:
        frames = traceback.extract_tb(error.__traceback__)
        own = [frame.lineno for frame in frames if frame.filename == str(path)]
        line = error.lineno if isinstance(error, SyntaxError) else own[-1] if own else None
        kind, reason = type(error).__name__, first_line(error)
        reason = kind if reason == kind else f"{kind}: {reason}"
        raise BlockFileError(f"block file {str(path)!r}, line {line}: {reason}") from error


def _forget(path: Path) -> None:
    """Remove the block types of an earlier content of the file."""
    for file in [file for file in _loaded.values() if file.path == path]:
        del _loaded[file.digest]
        for name in file.types:
            del BLOCK_TYPES[name], BLOCKS[name]


@contextmanager
def _all_or_nothing() -> Iterator[None]:
    """Restore all block types if the block fails."""
    tables: tuple[dict[str, Any], ...] = (BLOCK_TYPES, BLOCKS, _loaded)
    before = [dict(table) for table in tables]
    try:
        yield
    except BaseException:
        for table, old in zip(tables, before, strict=True):
            table.clear()
            table.update(old)
        raise
