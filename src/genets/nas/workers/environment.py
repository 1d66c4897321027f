"""The versions that must be equal on the driver and every worker, for equal results."""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError, version

from genets.core.gpu import has_cuda
from genets.core.resumable import differences

PACKAGES = ("torch", "torchvision", "timm")  # their versions may change the numbers of a training


def describe_environment(device: str, precision: str) -> dict[str, str]:
    """Give the versions and the precision of this process.

    Args:
        device: The device that trains.
        precision: The precision of the trainings; see `Recipe`.

    Returns:
        Facts by name. Versions are without the build, such as the `+cpu` of PyTorch.
    """
    import torch

    own = sys.modules["genets"].__version__  # no layer imports the public API
    facts = {"genets": own} | {name: _version_of(name) for name in PACKAGES}
    facts["precision of matrix products"] = torch.get_float32_matmul_precision()
    if device == "cpu":
        return facts
    facts["device"] = "cuda" if has_cuda(torch) else "no CUDA device"
    if precision == "bf16":
        from genets.training.resources import usual_precision

        facts["bf16 on the GPU"] = "yes" if usual_precision("cuda") == "bf16" else "no"
    return facts


def _version_of(package: str) -> str:
    try:
        return version(package).partition("+")[0]
    except PackageNotFoundError:
        return "none"


def describe_differences(driver: dict[str, str], worker: dict[str, str]) -> str:
    """Describe the differences of two environments; empty where there is none."""
    return "; ".join(differences(driver, worker, "search", now="there"))
