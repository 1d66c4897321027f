import pytest
import torch

from genets.networks import build, count
from genets.structure import zoo
from genets.training import fitting_threads


@pytest.mark.parametrize(
    ("resolution", "reading", "threads"),
    [(16, False, 1), (32, False, 4), (16, True, 1), (32, True, 2), (64, True, 4)],
)
def test_small_steps_get_fewer_threads(resolution: int, reading: bool, threads: int) -> None:
    net = build(zoo["master_small"], 10)
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        with fitting_threads(net, resolution, 64, reading=reading):
            assert torch.get_num_threads() == threads
        assert torch.get_num_threads() == 4
        with pytest.raises(KeyError), fitting_threads(net, resolution, 64):
            raise KeyError
        assert torch.get_num_threads() == 4
    finally:
        torch.set_num_threads(before)


def test_the_limit_is_between_what_was_measured() -> None:
    at_16 = count(build(zoo["master_small"], 10), 16).multiply_adds * 64
    at_32 = count(build(zoo["master_small"], 10), 32).multiply_adds * 64
    assert (round(at_16 / 1e9, 1), round(at_32 / 1e9, 1)) == (0.1, 0.4)
