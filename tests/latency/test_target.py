import re
import subprocess
import sys

import pytest
import torch

from genets.cli.target_options import make_target
from genets.core.errors import TargetError
from genets.core.host import physical_cores
from genets.latency import ENGINES, Target, measure
from genets.latency.engines import torch_engine
from genets.latency.engines.onnxruntime_engine import PROVIDERS
from genets.latency.target import ENGINE_PROVIDERS


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"device": "gpu"}, "device must be auto, cpu, cuda or cuda:NUMBER, not 'gpu'"),
        ({"device": "cuda:x"}, "device must be auto, cpu, cuda or cuda:NUMBER, not 'cuda:x'"),
        ({"device": "cuda:-1"}, "device must be auto, cpu, cuda or cuda:NUMBER, not 'cuda:-1'"),
        ({"device": None}, "unknown device 'None'"),
        ({"engine": "torhc"}, "unknown engine 'torhc'; did you mean torch or torch-graph?"),
        ({"engine": {"torch": 1}}, "unknown engine \"{'torch': 1}\""),
        ({"precision": "fp61"}, "unknown precision 'fp61'; did you mean fp"),
        ({"batch_size": 0}, "batch_size must be an integer from 1 to 65536, not 0"),
        ({"batch_size": -8}, "batch_size must be an integer from 1 to 65536, not -8"),
        ({"batch_size": 10**9}, "batch_size must be an integer from 1 to 65536, not 1000000000"),
        ({"batch_size": 1.5}, "batch_size must be an integer from 1 to 65536, not 1.5"),
        ({"batch_size": True}, "batch_size must be an integer from 1 to 65536, not True"),
        ({"threads": 0}, "threads must be an integer from 1 to 1024, not 0"),
        ({"provider": "cuda"}, "engine torch has no providers, so provider 'cuda' is refused"),
        ({"engine": "onnxruntime", "provider": "tensort"}, "'tensort'; did you mean tensorrt?"),
        ({"device": "cuda", "threads": 2}, "threads are for a CPU, not for device 'cuda'"),
    ],
)
def test_wrong_target(fields: dict[str, object], message: str) -> None:
    with pytest.raises(TargetError, match=re.escape(message)):
        Target(**fields)  # type: ignore[arg-type]


def test_name_fits_a_file_name() -> None:
    assert Target(threads=2).name == "cpu-torch-fp32-b64-t2"
    assert Target("cuda:1", "torch", "fp16", 1).name == "cuda1-torch-fp16-b1"
    tensorrt = Target("cuda", "onnxruntime", "int8", 1, provider="tensorrt")
    assert tensorrt.name == "cuda-onnxruntime-tensorrt-int8-b1"
    assert Target().name == Target(threads=physical_cores()).name


def test_json_round_trip_and_unknown_field() -> None:
    target = Target(batch_size=3, threads=1)
    assert Target.from_json(target.to_json()) == target
    with pytest.raises(TargetError, match="unknown field of a target 'batchsize'; did you mean"):
        Target.from_json({"batchsize": 3})


@pytest.mark.parametrize(
    ("fields", "device"),
    [
        ({}, "cuda"),
        ({"device": "auto", "precision": "fp16"}, "cuda"),
        ({"device": "cpu"}, "cpu"),
        ({"threads": 1}, "cpu"),  # threads are for a CPU
        ({"engine": "openvino"}, "cpu"),  # runs on no GPU here
    ],
)
def test_the_default_device_is_cuda_where_the_target_runs_on_it(
    monkeypatch: pytest.MonkeyPatch, fields: dict[str, object], device: str
) -> None:
    monkeypatch.setattr("genets.latency.target._may_have_gpu", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert Target(**fields).device == device  # type: ignore[arg-type]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert Target(**fields).device == "cpu"  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("fields", "engine"),
    [
        ({"device": "cpu"}, "torch"),
        ({"device": "cuda"}, "torch-graph"),
        ({"device": "cuda:1", "engine": "auto"}, "torch-graph"),
        ({"device": "cuda", "engine": "torch"}, "torch"),
        ({"threads": 1}, "torch"),
    ],
)
def test_the_engine_auto_depends_on_the_device(fields: dict[str, object], engine: str) -> None:
    target = Target(**fields)  # type: ignore[arg-type]
    assert target.engine == engine
    assert Target.from_json(target.to_json()) == target


def test_the_engine_follows_another_kind_of_device() -> None:
    """As with `genets select STUDY --device cuda` for a study on a CPU, and the reverse."""
    cpu, gpu = Target("cpu", threads=1), Target("cuda", precision="fp16")
    assert make_target({"device": "cuda"}, cpu).engine == "torch-graph"
    assert make_target({"device": "cpu", "precision": "fp32"}, gpu).engine == "torch"
    assert make_target({"device": "cuda:1"}, Target("cuda", "torch")).engine == "torch"
    assert make_target({"device": "cpu"}, Target("cuda", "torch-compile")).engine == "torch-compile"
    assert make_target({"batch_size": 1}, gpu) == Target("cuda", "torch-graph", "fp16", 1)


def test_cuda_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(
        TargetError, match="device 'cuda' is not available: this machine has no CUDA"
    ):
        Target("cuda").check()
    with pytest.raises(TargetError, match="this machine has no CUDA device"):
        measure(torch.nn.Conv2d(3, 4, 1), Target("cuda"), 8)


def test_cuda_device_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(
        TargetError, match=r"'cuda:1' is not available: this machine has 1 CUDA device"
    ):
        Target("cuda:1").check()


def test_precision_that_a_cpu_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TargetError, match="fp16 is for CUDA devices; on a CPU use fp32 or bf16"):
        Target(precision="fp16").check()
    monkeypatch.setattr(torch_engine, "cpu_has_bf16", lambda: False)
    with pytest.raises(TargetError, match="bf16 is not supported by this CPU"):
        Target(precision="bf16").check()


def test_the_words_of_a_target_are_those_of_the_engines() -> None:
    assert set(ENGINE_PROVIDERS) == set(ENGINES)
    assert ENGINE_PROVIDERS["onnxruntime"] == tuple(PROVIDERS)


@pytest.mark.parametrize(
    "words",
    [
        ("measure", "genet_light", "--engine", "foo"),
        ("compare", "genet_light", "--precision", "foo"),
        ("eval", "genet_light", "--data", "digits", "--device", "foo"),
        ("export", "genet_light", "--out", "x", "--batch-size", "0"),
        ("profile", "--provider", "foo", "--engine", "onnxruntime"),
    ],
)
def test_a_wrong_word_does_not_wait_for_pytorch(words: tuple[str, ...]) -> None:
    script = (
        "import sys; from typer.testing import CliRunner; from genets.cli import app; "
        "status = CliRunner().invoke(app, sys.argv[1:]).exit_code; "
        "print(status, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True)
    assert done.stdout == "2 False\n"
