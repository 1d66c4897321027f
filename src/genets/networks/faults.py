"""Why a network cannot be converted: the operator, or the module, and one line of reason."""

from __future__ import annotations

import re
from collections.abc import Iterator
from types import TracebackType

from torch import nn

# As torch's exporters and OpenVINO's converter write them, with and without the overload.
_NO_TRANSLATION = re.compile(
    r"(?:No ONNX function found for <OpOverload\(op='|No conversion rule found for operations: "
    r"|Unsupported FX nodes: \{'call_function': \[')([\w.]+)"
)


def what_failed(error: BaseException) -> str:
    """`operator NAME`, or `module NAME: reason`, or the reason alone; always one line."""
    chain = list(_causes(error))
    for cause in chain:
        found = _NO_TRANSLATION.search(str(cause))
        if found:
            return f"operator {found[1]} is not supported"
    reason = next((line for cause in reversed(chain) if (line := _first_line(cause))), "")
    module = next((name for cause in reversed(chain) if (name := _module(cause))), None)
    return f"module {module}: {reason}" if module else reason


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].strip() if lines else type(error).__name__


def _module(error: BaseException) -> str | None:
    """The class of the innermost module, other than torch's own, whose code was running."""
    trace: TracebackType | None = error.__traceback__
    name = None
    while trace is not None:
        owner = trace.tb_frame.f_locals.get("self")
        if isinstance(owner, nn.Module) and not type(owner).__module__.startswith("torch."):
            name = type(owner).__name__
        trace = trace.tb_next
    return name
