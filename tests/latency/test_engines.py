"""One contract for all engines, in every precision that this machine has.

Tests with the mark `gpu` are the same contract on a CUDA device.
"""

import ast
import copy
import gc
import itertools
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

import genets.latency.engines
from genets.core.errors import TargetError
from genets.latency import ENGINES, Target
from genets.latency.engines import Prepared, memory, openvino_engine, torch_compile
from genets.latency.engines.base import Stopwatch, find_move, normal_images
from genets.latency.engines.torch_engine import EagerRun, cpu_has_bf16
from genets.networks import build
from genets.structure import Structure

BATCH, SIDE, CLASSES = 4, 16, 5
TOLERANCES = {"fp32": 1e-4, "fp16": 0.01, "bf16": 0.03, "int8": 0.1}  # of the largest logit
TF32_TOLERANCE = 0.01  # convolutions in fp32 may use TF32 on CUDA, with as many bits as fp16
SEEDED = torch.Generator().manual_seed(3)
CALIBRATION = torch.randn(11, 3, SIDE, SIDE, generator=SEEDED)
IMAGES = torch.randn(7, 3, SIDE, SIDE, generator=SEEDED)


def available(device: str) -> list[Target]:
    """Every engine, provider and precision of a device; an engine refuses what the device lacks.

    OpenVINO asks the CPU itself for bf16, but computes with oneDNN, which ONEDNN_MAX_CPU_ISA can
    restrict. It then refuses nothing and fails later, so bf16 is left out here.
    """
    targets = []
    for name, engine in ENGINES.items():
        providers = (None, "tensorrt") if name == "onnxruntime" else (None,)
        for provider, precision in itertools.product(providers, engine.precisions):
            if device == "cpu" and precision == "bf16" and not cpu_has_bf16():
                continue
            threads = 1 if device == "cpu" else None
            target = Target(device, name, precision, BATCH, threads, provider)
            try:
                target.check()
            except TargetError:
                continue
            targets.append(target)
    return targets


def on_gpu(targets: list[Target]) -> list[Any]:
    return [pytest.param(target, marks=pytest.mark.gpu) for target in targets]


CPU_TARGETS = available("cpu")
# Where there is no GPU, a target that is skipped stands for those of a GPU.
GPU_TARGETS = available("cuda") or [Target("cuda", batch_size=BATCH)]
TARGETS = [*CPU_TARGETS, *on_gpu(GPU_TARGETS)]
CPU_ENGINES = [name for name in ENGINES if name != "torch-graph"]
WITH_FILES = ("onnxruntime", "openvino")
FILE_ENGINES = sorted({target.engine for target in CPU_TARGETS if target.engine in WITH_FILES})
INT8 = [
    *(target for target in CPU_TARGETS if target.precision == "int8"),
    *on_gpu([target for target in GPU_TARGETS if target.precision == "int8"]),
]


def tolerance_of(target: Target) -> float:
    """The largest deviation of a logit from PyTorch's in fp32 on the CPU, as a share."""
    if target.precision == "fp32" and not target.is_cpu:
        return TF32_TOLERANCE
    return TOLERANCES[target.precision]


@torch.no_grad()
def make_network() -> nn.Module:
    """A small network, because torch-compile is slow, with a skip, strides and real statistics."""
    network = build(Structure.parse("Conv3x8s2 XX3x8 DW3x8r2 Conv1x16 @16"), CLASSES)
    generator = torch.Generator().manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.uniform_(0.5, 1.5, generator=generator)
            module.running_mean.normal_(0, 0.2, generator=generator)
            module.running_var.uniform_(0.5, 1.5, generator=generator)
    return network.train()


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    return make_network()


@pytest.fixture(scope="module", params=TARGETS, ids=str)
def case(request: pytest.FixtureRequest, network: nn.Module) -> tuple[Target, Prepared, dict]:
    """A target, the network prepared for it, and the network's weights before that."""
    before = copy.deepcopy(network.state_dict())
    target = request.param
    with ENGINES[target.engine].open(target):
        calibration = CALIBRATION if target.precision == "int8" else None
        prepared = ENGINES[target.engine].prepare(network, target, SIDE, calibration)
    return target, prepared, before


@pytest.fixture(scope="module")
def expected(network: nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return copy.deepcopy(network).eval()(IMAGES)


@pytest.mark.parametrize("count", [1, BATCH, 7])
def test_outputs_are_those_of_torch_for_any_number_of_images(case, expected, count) -> None:
    target, prepared, _ = case
    logits = prepared.predict(IMAGES[:count])
    assert logits.shape == (count, CLASSES)
    assert (logits.dtype, logits.device.type) == (torch.float32, "cpu")
    limit = tolerance_of(target) * expected.abs().max()
    assert (logits - expected[:count]).abs().max() < limit
    if target.precision != "fp32":
        assert not torch.equal(logits, expected[:count]), "computed in fp32 after all"


def test_many_images_in_another_memory_layout(case) -> None:
    """This test found an engine that read arrays after they were freed."""
    _, prepared, _ = case
    many = IMAGES[:BATCH].repeat(50, 1, 1, 1).contiguous(memory_format=torch.channels_last)
    logits = prepared.predict(many).reshape(50, BATCH, CLASSES)
    assert torch.equal(logits, prepared.predict(IMAGES[:BATCH]).expand_as(logits))


# torch-compile runs the same code as torch and takes seconds.
QUICK_TARGETS = [
    *(target for target in CPU_TARGETS if target.engine != "torch-compile"),
    *on_gpu([target for target in GPU_TARGETS if target.engine != "torch-compile"]),
]


@pytest.mark.parametrize("target", QUICK_TARGETS, ids=str)
def test_prepared_for_latency_only_it_computes_the_same(target, network, expected) -> None:
    with ENGINES[target.engine].open(target):
        prepared = ENGINES[target.engine].prepare(network, target, SIDE, latency_only=True)
    limit = tolerance_of(target) * expected.abs().max()
    if target.precision != "int8":  # ranges from noise
        assert (prepared.predict(IMAGES) - expected).abs().max() < limit
    assert prepared.predict(IMAGES).shape == expected.shape


@pytest.mark.parametrize(
    ("name", "outputs"),
    [
        ("onnxruntime", lambda run: run.kept[1].numpy()),
        ("openvino", lambda run: run.request.get_output_tensor().data),
    ],
)
def test_the_timed_run_computes_the_normal_images(name, outputs, network) -> None:
    """The inputs stay alive as long as the run; garbage would take another time."""
    pytest.importorskip(name)
    target = Target(engine=name, batch_size=BATCH, threads=1)
    with ENGINES[name].open(target):
        prepared = ENGINES[name].prepare(network, target, SIDE)
        gc.collect()
        junk = [torch.full((BATCH, 3, SIDE, SIDE), 1e9) for _ in range(200)]
        prepared()
    assert len(junk) == 200
    expected = prepared.predict(normal_images((BATCH, 3, SIDE, SIDE))).numpy()
    assert outputs(prepared.run) == pytest.approx(expected, rel=1e-5)


def test_a_network_that_is_moved_in_memory_computes_the_same(network) -> None:
    target, engine = Target(batch_size=BATCH, threads=1), ENGINES["torch"]
    with engine.open(target):
        prepared = engine.prepare(network, target, SIDE)
        move, run = find_move(prepared), prepared.run
        assert isinstance(run, EagerRun)
        before, outputs = [each.data for each in run.tensors()], run()
        move()
        after = [each.data for each in run.tensors()]
        assert torch.equal(run(), outputs)
    assert len(before) == len(after) > 1
    for old, new in zip(before, after, strict=True):
        assert torch.equal(old, new)
        assert old.stride() == new.stride()
        assert old.data_ptr() != new.data_ptr()
    assert torch.equal(prepared.predict(normal_images((BATCH, 3, SIDE, SIDE))), outputs)


def test_the_callers_network_is_not_changed(case, network) -> None:
    _, _, before = case
    after = network.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(module.training for module in network.modules())


def test_runs_take_time_and_preparing_is_counted_apart(case) -> None:
    target, prepared, _ = case
    with ENGINES[target.engine].open(target) as clock:
        assert clock.time_runs(prepared, 3) > 0
        enqueue_s = clock.enqueue_s(prepared)
        assert enqueue_s is None if target.is_cpu else enqueue_s > 0
    assert "fold" in prepared.seconds
    assert all(seconds > 0 for seconds in prepared.seconds.values())
    assert ("quantise" in prepared.seconds) == (target.precision == "int8")
    if target.is_cpu or target.engine == "onnxruntime":
        assert prepared.memory_bytes is None
    else:
        assert prepared.memory_bytes > 0


def test_predicting_leaves_the_timed_inputs_alone(case) -> None:
    target, prepared, _ = case
    first = prepared.predict(IMAGES)
    with ENGINES[target.engine].open(target):
        prepared()
    assert torch.equal(prepared.predict(IMAGES), first)


def test_images_of_another_shape(case) -> None:
    _, prepared, _ = case
    for wrong in (torch.zeros(2, 3, 8, 8), torch.zeros(0, 3, SIDE, SIDE), torch.zeros(3, 16, 16)):
        sentence = f"images must have shape (N, 3, 16, 16), not {tuple(wrong.shape)}"
        with pytest.raises(TargetError, match=re.escape(sentence)):
            prepared.predict(wrong)


def test_the_written_files_compute_the_same(case, tmp_path) -> None:
    target, prepared, _ = case
    if target.engine not in WITH_FILES:
        with pytest.raises(TargetError, match="this engine writes no files; onnxruntime and open"):
            prepared.save(tmp_path)
        return
    paths = prepared.save(tmp_path)
    assert sorted(paths) == sorted(tmp_path.iterdir())
    assert torch.equal(prepared.files.load(tmp_path)(IMAGES[:BATCH]), prepared.predict(IMAGES[:4]))


@pytest.mark.parametrize("target", INT8, ids=str)
def test_int8_records_the_source_of_its_ranges_and_prints_nothing(target, network, capfd) -> None:
    engine = ENGINES[target.engine]
    with engine.open(target):
        quantisation = engine.prepare(network, target, SIDE).quantisation
        assert capfd.readouterr() == ("", "")
        assert (quantisation["ranges_from"], quantisation["images"]) == ("noise", BATCH)
        wrong = torch.zeros(2, 3, 8, 8)
        with pytest.raises(TargetError, match=r"calibration images must have shape \(N, 3, 16, 16"):
            engine.prepare(network, target, SIDE, wrong)


def test_int8_takes_the_images_that_it_is_given(case) -> None:
    target, prepared, _ = case
    if target.precision == "int8":
        assert prepared.quantisation["ranges_from"] == "images"
        assert prepared.quantisation["images"] == len(CALIBRATION)
    else:
        assert prepared.quantisation is None


@pytest.mark.parametrize("name", CPU_ENGINES)
def test_a_resolution_that_does_not_fit(name, network) -> None:
    target = Target(engine=name, batch_size=1, threads=1)
    with ENGINES[name].open(target):
        with pytest.raises(TargetError, match="resolution must be at least 2, the product of the"):
            ENGINES[name].prepare(network, target, 1)
        with pytest.raises(TargetError, match=f"{name} cannot|does not run on {target.name}"):
            ENGINES[name].prepare(nn.Sequential(nn.Conv2d(3, 4, 7)), target, 4)


class _Failing(nn.Module):
    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.layer, self.error = nn.Conv2d(3, 4, 1), error

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        raise self.error


@pytest.mark.parametrize(
    "error", [kind("height 4") for kind in (AssertionError, ValueError, TypeError, IndexError)]
)
def test_a_network_that_checks_its_images_itself(error) -> None:
    target = Target(batch_size=1, threads=1)
    sentence = f"does not run on {target.name} at resolution 4: height 4"
    with ENGINES["torch"].open(target), pytest.raises(TargetError, match=sentence):
        ENGINES["torch"].prepare(_Failing(error), target, 4)


@pytest.mark.parametrize("name", CPU_ENGINES)
def test_a_batch_that_does_not_fit(name, network, monkeypatch) -> None:
    monkeypatch.setattr(memory, "available_bytes", lambda: 10_000)
    target = Target(engine=name, batch_size=512, threads=1)
    sentence = "batch_size 512 at resolution 16 does not fit into the memory of cpu; use a smaller"
    with ENGINES[name].open(target), pytest.raises(TargetError, match=sentence):
        ENGINES[name].prepare(network, target, SIDE)


class Bessel(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.special.bessel_j0(x).mean((2, 3))


class Undecided(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean((2, 3)) if x.sum() > 0 else x.amax((2, 3))


@pytest.mark.parametrize("name", FILE_ENGINES)
@pytest.mark.parametrize(
    ("network", "named"), [(Bessel(), "operator .*bessel_j0"), (Undecided(), "module Undecided: ")]
)
def test_a_network_that_cannot_be_exported(name, network, named, capfd) -> None:
    target = Target(engine=name, batch_size=2, threads=1)
    with ENGINES[name].open(target), pytest.raises(TargetError) as error:
        ENGINES[name].prepare(network, target, SIDE)
    assert re.match(f"engine {name} cannot run this network: .*{named}", str(error.value))
    assert "\n" not in str(error.value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("fields", "missing", "sentence"),
    [
        ({"engine": "onnxruntime"}, "onnxscript", "clone of genets: pip install ."),
        ({"engine": "openvino"}, "openvino", "clone of genets: pip install '.[openvino]'"),
        (
            {"engine": "openvino", "precision": "int8"},
            "nncf",
            "clone of genets: pip install '.[openvino]'",
        ),
    ],
)
def test_a_package_that_is_missing(fields, missing, sentence, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(TargetError) as error:
        Target(**fields).check()
    assert str(error.value).endswith(sentence)
    assert f"needs the package {missing}" in str(error.value)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"engine": "torch", "precision": "int8"}, "engine torch; available are fp32, bf16"),
        (
            {"engine": "torch-graph", "device": "cpu"},
            "engine torch-graph runs on CUDA devices; use engine torch",
        ),
        (
            {"engine": "onnxruntime", "precision": "bf16"},
            "bf16 is not available on device 'cpu' in engine onnxruntime; available are fp32, int8",
        ),
        (
            {"engine": "onnxruntime", "provider": "tensorrt"},
            "provider tensorrt needs a CUDA device, not device 'cpu'",
        ),
        (
            {"engine": "onnxruntime", "provider": "cpu", "device": "cuda"},
            "provider cpu needs device cpu, not device 'cuda'",
        ),
        ({"engine": "openvino", "device": "cuda"}, "engine openvino runs on device cpu, not on"),
    ],
)
def test_unavailable_precisions_and_devices(fields, sentence) -> None:
    with pytest.raises(TargetError, match=re.escape(sentence)):
        Target(**fields).check()


def test_openvino_refuses_a_precision_that_the_cpu_lacks(monkeypatch) -> None:
    pytest.importorskip("openvino")

    class Core:
        def get_property(self, *_: str) -> list[str]:
            return ["FP32", "INT8"]

    monkeypatch.setattr(openvino_engine, "_core", Core)
    with pytest.raises(TargetError, match=r"bf16 is not available .* available are fp32, int8"):
        Target(engine="openvino", precision="bf16").check()


TWO_NETWORKS = """
import signal, torch
from genets.latency import Target
from genets.latency.engines.openvino_engine import OpenVinoEngine
engine, target, shape = OpenVinoEngine(), Target(engine="openvino", threads=1), (1, 3, 4, 4)
def load():
    model = engine.convert(torch.nn.ReLU(), shape, target, latency_only=False, free_batch=False)
    return engine.start(model, target)
first, second = load(), load()
del first
del second
signal.signal(signal.SIGUSR1, lambda *_: print("handled"))
signal.raise_signal(signal.SIGUSR1)
"""


def test_a_signal_is_handled_after_two_openvino_networks_have_ended() -> None:
    """Two openvino.Core objects that end in the order of their start leave no stack for signals."""
    pytest.importorskip("openvino")
    program = [sys.executable, "-c", TWO_NETWORKS]
    done = subprocess.run(program, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "handled\n"), done.stderr


def test_openvino_cannot_import_its_telemetry(monkeypatch) -> None:
    pytest.importorskip("openvino")
    monkeypatch.delitem(sys.modules, "openvino_telemetry", raising=False)
    openvino_engine._openvino()
    assert sys.modules["openvino_telemetry"] is None


def test_telemetry_that_was_imported_before_sends_nothing(monkeypatch) -> None:
    pytest.importorskip("openvino")

    class TelemetrySender:
        def send(self, backend: object, message: object) -> None:
            raise AssertionError("sent")

    module = SimpleNamespace(main=SimpleNamespace(TelemetrySender=TelemetrySender))
    monkeypatch.setitem(sys.modules, "openvino_telemetry", module)
    openvino_engine._openvino()
    TelemetrySender().send("backend", "message")


def test_compiled_weights_are_part_of_the_code() -> None:
    """Otherwise convolutions are silently not fused with the next operation."""
    from torch._inductor.utils import fresh_cache, run_and_get_code

    layers = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU()).eval()
    images = torch.ones(1, 3, 8, 8)
    engine = ENGINES["torch-compile"]
    target = Target(engine="torch-compile", batch_size=1, threads=1)
    with engine.open(target), fresh_cache():
        _, (code,) = run_and_get_code(engine.start, layers, images, Stopwatch(lambda: None))
    calls = [line for line in code.splitlines() if "mkldnn._convolution_pointwise" in line]
    assert len(calls) == 1
    assert "_frozen_param" in calls[0]
    assert "'relu'" in calls[0]


def test_every_compiled_network_has_code_of_its_own(monkeypatch) -> None:
    """Dynamo silently stops compiling at the ninth network that shares one code object."""
    kept = []
    monkeypatch.setattr(torch, "compile", lambda step, **_: kept.append(step) or step)
    for _ in range(9):
        torch_compile._compile(nn.Identity())
    assert len({id(step.__code__) for step in kept}) == 9


def test_engines_that_are_not_used_are_not_imported() -> None:
    heavy = {"onnxruntime", "openvino", "nncf", "onnx", "onnxscript"}
    for path in Path(genets.latency.engines.__file__).parent.glob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
            assert heavy.isdisjoint(name.partition(".")[0] for name in names), path
