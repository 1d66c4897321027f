"""Messages of wrong arguments, and the reason of a failure on one line."""

import pytest
import torch

import genets
from genets.core.errors import TrainingError, counted, first_line, is_out_of_memory


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (RuntimeError("\n  sizes differ \n at layer 3"), "sizes differ"),
        (RuntimeError(), "RuntimeError"),
        (MemoryError(" \n"), "MemoryError"),
        (OSError(28, "No space left on device"), "[Errno 28] No space left on device"),
        (ValueError("x" * 501), "x" * 500),
    ],
)
def test_first_line(error: Exception, reason: str) -> None:
    assert first_line(error) == reason


@pytest.mark.parametrize(
    ("error", "is_lack"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (
            RuntimeError("DefaultCPUAllocator: not enough memory: you tried"),
            True,
        ),
        (RuntimeError("could not create a primitive"), True),
        (RuntimeError("could not create a memory object"), True),
        (RuntimeError("std::bad_alloc"), True),
        (Exception("Failed to allocate memory for requested buffer of size 9"), True),
        (RuntimeError("could not create a primitive descriptor for a convolution"), False),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (TrainingError("image a.png cannot be read (cannot allocate memory)"), False),
    ],
    ids=repr,
)
def test_a_lack_of_memory(error: Exception, is_lack: bool) -> None:
    assert is_out_of_memory(error) == is_lack


def test_counted() -> None:
    assert [counted(number, "image") for number in (0, 1, 2)] == ["0 images", "1 image", "2 images"]
    assert [counted(number, "process", "processes") for number in (1, 2)] == [
        "1 process",
        "2 processes",
    ]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda net, target: genets.measure("genet_light", target, resolution=16),
            "network must be a torch.nn.Module, such as from genets.build, not 'genet_light'",
        ),
        (
            lambda net, target: genets.measure(net, "cpu", resolution=16),
            "target must be a Target, such as genets.Target(device='cpu'), not 'cpu'",
        ),
        (
            lambda net, target: genets.build("genet_light", 10),
            "structure must be a Structure, such as genets.zoo['genet_light'], not 'genet_light'",
        ),
        (
            lambda net, target: genets.select("study", 1),
            "budget must be a text such as '0.5x', not 1",
        ),
        (
            lambda net, target: genets.select("study", "1x", target="cpu"),
            "target must be None or a Target, such as genets.Target(device='cpu'), not 'cpu'",
        ),
        (
            lambda net, target: genets.search(out="study", workers="a"),
            "workers must be an integer or None, not 'a'",
        ),
        (
            lambda net, target: genets.search(out="study", workers=True),
            "workers must be an integer or None, not True",
        ),
    ],
)
def test_an_argument_of_a_wrong_type_is_one_sentence(call, message):
    with pytest.raises(genets.GenetsError) as error:
        call(torch.nn.Linear(2, 2), genets.Target())
    assert str(error.value) == message


def test_the_result_of_a_search_is_public():
    assert "SearchResult" in genets.__all__
    assert genets.SearchResult.__module__ == "genets.nas.result"
