"""Own block types: the examples from end to end, and every kind of error."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from timm.models.byobnet import RepVggBlock
from torch import nn

import genets
from genets.core.errors import BlockFileError, GenetsError, StructureError
from genets.latency.predictor.work import block_work
from genets.networks import build, count, fold_batchnorm, load_blocks, own_blocks, register_block
from genets.networks.block_layers import block_stage, read_layers
from genets.networks.build import BLOCKS
from genets.structure import BLOCK_TYPES, Block, DesignSpace, Structure, SuperBlock
from genets.structure.cost import input_resolutions, stage_multiply_adds

pytestmark = pytest.mark.usefixtures("own_block_types")

EXAMPLES = Path(__file__).parents[2] / "examples"
NETWORKS = {
    "rep_blocks.py": "Conv3x13s2 RepVGG3x24s2*2 RepVGG5x24*2 MobileOne3x40s2*2 Conv1x64 @33",
    "uib_blocks.py": "Conv3x16s2 ExtraDW3x24s2r4*2 ConvNext5x40r3*2 ExtraDW5x40r2 Conv1x64 @33",
}
FILE = """
from timm.models.byobnet import BottleneckBlock
import genets
genets.register_block("Mine", BottleneckBlock, ratios=(0.25, 2))
"""


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(FILE)
    return path


@pytest.mark.parametrize("name", NETWORKS)
def test_examples_build_run_and_fuse(name: str, randomise: Callable[..., nn.Module]) -> None:
    load_blocks(EXAMPLES / name)
    net = randomise(build(Structure.parse(NETWORKS[name]), 10))
    images = torch.randn(2, 3, 33, 33, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = net(images)
        folded = fold_batchnorm(net)
        received = folded(images)
    assert expected.shape == (2, 10)
    assert expected.std() > 0.01
    torch.testing.assert_close(received, expected, rtol=1e-5, atol=1e-5)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    branches = [module.reparam_conv for module in net.modules() if hasattr(module, "reparam_conv")]
    assert len(branches) == (8 if name == "rep_blocks.py" else 0)
    assert all(branch is None for branch in branches), "the caller's network is not merged"


@pytest.mark.parametrize("name", NETWORKS)
def test_examples_are_written_and_read_back(name: str, tmp_path: Path) -> None:
    load_blocks(EXAMPLES / name)
    structure = Structure.parse(NETWORKS[name])
    assert str(structure) == NETWORKS[name]
    structure.save(tmp_path / "mine.toml")
    assert Structure.load(tmp_path / "mine.toml") == structure
    assert pickle.loads(pickle.dumps(structure)) == structure


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("seed", range(3))
def test_costs_are_those_of_the_merged_network(name: str, seed: int) -> None:
    file = load_blocks(EXAMPLES / name)
    high = [BLOCK_TYPES[kind].allows_ratio(3) for kind in file.types]
    blocks = [Block(kind, 3, 3 if wide else 1) for kind, wide in zip(file.types, high, strict=True)]
    space = DesignSpace(tuple(blocks), resolutions=(33,)).around(Structure.parse(NETWORKS[name]))
    structure = space.sample(np.random.default_rng(seed))
    widths = [3, *(stage.width for stage in structure.stages)]
    stages = zip(structure.stages, widths, input_resolutions(structure), strict=False)
    total = sum(stage_multiply_adds(*stage) for stage in stages) + structure.head.width * 1000
    assert total == count(structure).multiply_adds
    merged = fold_batchnorm(build(structure))
    assert total == count(merged, structure.resolution).multiply_adds


def test_a_merged_repvgg_block_costs_one_convolution() -> None:
    load_blocks(EXAMPLES / "rep_blocks.py")
    stage = SuperBlock("RepVGG", 2, 64, stride=2)
    assert stage_multiply_adds(stage, 32, 15) == 8 * 8 * 9 * (32 * 64 + 64 * 64)


def test_an_own_copy_of_a_paper_block_has_its_work() -> None:
    register_block("Copy", _bottleneck, ratios=(0.25, 1))
    widths = np.array([16.0, 40.0, 48.0])
    for stride in (1, 2):
        own, paper = (
            block_work(Block(kind, 3, 0.5), widths, 48, stride, 14) for kind in ("Copy", "BL")
        )
        np.testing.assert_allclose(own, paper)


def _bottleneck(in_chs: int, out_chs: int, **options: object) -> nn.Module:
    from timm.models.byobnet import BottleneckBlock

    return BottleneckBlock(in_chs, out_chs, **options)


def test_inner_widths_are_rounded_as_timm_does() -> None:
    register_block("Copy", _bottleneck, ratios=(0.25, 1))
    for width in (8, 24, 40, 72, 200):
        own, paper = (SuperBlock(kind, 1, width, ratio=0.25) for kind in ("Copy", "BL"))
        assert stage_multiply_adds(own, width, 8) == stage_multiply_adds(paper, width, 8)


def _kernel_of_9(in_chs: int, out_chs: int, kernel_size: int = 9, **options: object) -> nn.Module:
    return RepVggBlock(in_chs, out_chs, kernel_size, **options)


def test_the_kernel_size_is_always_passed_on() -> None:
    def kernel_of_9(
        in_chs: int, out_chs: int, kernel_size: int = 9, **options: object
    ) -> nn.Module:
        return RepVggBlock(in_chs, out_chs, kernel_size, **options)

    register_block("Wide", kernel_of_9)
    (block,) = block_stage(Block("Wide", 3), 8, 8, 1)
    assert block.conv_kxk.conv.kernel_size == (3, 3)


def test_a_file_is_run_once_and_recognised_by_its_content(mine: Path) -> None:
    file = load_blocks(mine)
    assert file.types == ("Mine",)
    assert load_blocks(mine) == file == load_blocks(str(file))
    copy = mine.with_name("copy.py")
    copy.write_bytes(mine.read_bytes())
    assert load_blocks(copy).path == copy
    assert str(Structure.parse("Conv3x8s2 Mine3x8r0.5 XX3x8 Conv1x8 @8").stages[1]).count("Mine")
    assert genets.load_blocks is load_blocks


def test_an_edited_file_replaces_its_types_except_in_an_old_study(mine: Path) -> None:
    old = str(load_blocks(mine))
    mine.write_text(FILE.replace("(0.25, 2)", "(1, 1)").replace("Mine", "Other"))
    assert load_blocks(mine).types == ("Other",)
    assert "Mine" not in BLOCK_TYPES
    with pytest.raises(BlockFileError, match=r"mine.py' has changed since the study began"):
        load_blocks(old)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "registers no block type; it must call genets.register_block"),
        ("import nothing_of_this_name", "line 1: ModuleNotFoundError: No module named 'nothing_of"),
        ("\n\ndef f(:", "line 3: SyntaxError: invalid syntax"),
        ("\nraise SystemExit", "line 2: SystemExit"),
        ("x = 1\n\0", "source code string cannot contain null bytes|null bytes"),
        (FILE.replace('"Mine"', '"BL"'), "block type BL exists already; take another name"),
        (FILE.replace('"Mine"', '"bl"'), "first one upper case and the last one not x, not 'bl'"),
        (FILE.replace('"Mine"', '"Box"'), "the last one not x, not 'Box'"),
        (FILE.replace('"Mine"', '"Mine2"'), "must be letters, .* not 'Mine2'"),
        (FILE.replace('"Mine"', "3"), "must be letters, .* not 3"),
        (FILE.replace("(0.25, 2)", "(2, 0.25)"), "ratios of Mine must be the smallest and the"),
        (FILE.replace("(0.25, 2)", "2"), "above 0 and at most 64, not 2"),
        (FILE.replace("BottleneckBlock,", "None,"), "block of Mine must be a class or function"),
        (FILE + "1 / 0", "line 5: ZeroDivisionError: division by zero"),
    ],
)
def test_a_broken_file_is_one_sentence_and_leaves_nothing(
    mine: Path, content: str, message: str
) -> None:
    before = dict(BLOCK_TYPES)
    mine.write_text(content)
    with pytest.raises(BlockFileError, match=message) as caught:
        load_blocks(mine)
    assert str(mine) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert before == BLOCK_TYPES
    assert "Mine" not in BLOCKS
    mine.write_text(FILE)
    assert load_blocks(mine).types == ("Mine",)


def test_a_missing_file_can_be_loaded_from_a_copy(mine: Path) -> None:
    text = str(load_blocks(mine))
    own_blocks._forget(mine)  # as if this were another process
    copy = mine.rename(mine.with_name("copy.py"))
    with pytest.raises(BlockFileError, match=r"No such file.* can be given as genets --own-blocks"):
        load_blocks(text)
    there = load_blocks(copy)
    assert str(load_blocks(text)) == text
    assert own_blocks.loaded_block_files([text]) == (str(there),), "which workers can find"


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(BlockFileError, match=r"cannot read block file '.*none.py': No such file"):
        load_blocks(tmp_path / "none.py")
    with pytest.raises(BlockFileError, match=r"block file '.*' must be a Python file"):
        load_blocks(tmp_path)


def test_two_files_cannot_have_one_name(mine: Path) -> None:
    load_blocks(mine)
    other = mine.with_name("other.py")
    other.write_text(FILE + "# another file")
    with pytest.raises(BlockFileError, match=r"Mine exists already \(of .*mine.py\); take another"):
        load_blocks(other)


class _NoStride(nn.Module):
    def __init__(self, in_chs: int, out_chs: int, **unused: object) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_chs, out_chs, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x)


def _pool(in_chs: int, out_chs: int, stride: int, **unused: object) -> nn.Module:
    return nn.LPPool2d(1, 1, stride, ceil_mode=True)


def _deeper_where_wider(in_chs: int, out_chs: int, stride: int, **unused: object) -> nn.Module:
    first = nn.Conv2d(in_chs, out_chs, 3, stride, 1)
    return nn.Sequential(first, *(nn.Conv2d(out_chs, out_chs, 1) for _ in range(out_chs // 150)))


@pytest.mark.parametrize(
    ("block", "message"),
    [
        (_NoStride, r"must map \(2, 16, 7, 7\) to \(2, 24, 4, 4\), not to \(2, 24, 7, 7\)"),
        (nn.Conv2d, "Mine cannot be built and run: .* unexpected keyword argument"),
        (_pool, "Mine3 runs no nn.Conv2d, so its cost cannot be"),
        (_deeper_where_wider, "Mine3 has other layers at other widths, so its"),
    ],
)
def test_blocks_that_do_not_work_are_refused(block: Callable[..., nn.Module], message: str) -> None:
    with pytest.raises(GenetsError, match=message):
        register_block("Mine", block)
    assert "Mine" not in BLOCK_TYPES


def test_a_notebook_may_register_a_block_again_but_a_search_needs_a_file() -> None:
    register_block("Mine", RepVggBlock)
    register_block("Mine", _bottleneck, ratios=(0.5, 1))
    assert Block("Mine", 3, 0.5).ratio == 0.5
    with pytest.raises(
        StructureError, match=r"ratio of a Mine block must be from 0\.5 to 1, not 2"
    ):
        Block("Mine", 3, 2)
    with pytest.raises(BlockFileError, match="block type Mine was registered without a file"):
        own_blocks.find_block_files(["XX", "Mine"])


def test_the_message_on_an_unknown_type_says_how_to_load_it() -> None:
    with pytest.raises(StructureError, match=r"of your own with genets --own-blocks FILE, or"):
        Structure.parse("Conv3x8s2 Foo3x8 XX3x8 Conv1x8 @8")


def test_copies_of_files_never_overwrite_others(mine: Path, tmp_path: Path) -> None:
    file = load_blocks(mine)
    assert own_blocks.find_block_files(["Mine", "XX", "Mine"]) == (file,)
    out = tmp_path / "results"
    out.mkdir()
    file.copy_to(out)
    file.copy_to(out)
    assert [path.name for path in out.iterdir()] == ["mine.py"]
    (out / "mine.py").write_text("another")
    file.copy_to(out)
    assert (out / "mine.py").read_text() == "another"
    assert (out / f"mine-{file.digest[:12]}.py").read_text() == FILE


def test_layers_are_read_without_memory_or_random_numbers() -> None:
    load_blocks(EXAMPLES / "rep_blocks.py")
    state = torch.get_rng_state()
    layers = read_layers(Block("MobileOne", 5), 2, 64)
    assert torch.get_rng_state().equal(state)
    depth_wise, pointwise = layers.at(48, 96)
    assert (depth_wise.depth_wise, depth_wise.window, depth_wise.side_out) == (True, 25, 32)
    assert (pointwise.depth_wise, pointwise.window, pointwise.side_in) == (False, 1, 32)
    assert pointwise.at(48, 96).multiply_adds == 32 * 32 * 48 * 96
