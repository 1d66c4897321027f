"""Batch normalisation folded into the convolution before it, for inference."""

from __future__ import annotations

import copy
import inspect
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import torch
from timm.layers._fx import get_notrace_functions, is_notrace_module
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.norm_act import BatchNormAct2d
from timm.models import reparameterize_model
from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

# Exact types: a subclass may standardise its weight or keep other statistics.
CONVOLUTIONS = (nn.Conv2d, Conv2dSame)
NORMS = (nn.BatchNorm2d, nn.SyncBatchNorm, BatchNormAct2d)


def fold_batchnorm(net: nn.Module) -> nn.Module:
    """Fold each batch norm into the convolution before it.

    Multi-branch blocks that timm can merge (RepVGG, MobileOne, ...) are merged first. These are
    not folded:

    - a batch norm that does not directly follow a convolution (DenseNet), or that has no running
      statistics;
    - a convolution that is used twice, or whose output is also used elsewhere;
    - convolutions other than `nn.Conv2d` and timm's `Conv2dSame`;
    - pairs with hooks or parametrisations;
    - parts of a network that `torch.fx` cannot trace down to the pair.

    Args:
        net: The network, which is not changed.

    Returns:
        A copy in eval mode with equal outputs, of the same class and with the same methods.
    """
    folded = reparameterize_model(copy.deepcopy(net).eval(), inplace=True)
    with torch.no_grad():
        _fold_inside(folded)
    return folded


def _fold_inside(net: nn.Module) -> None:
    graph = _trace(net)
    if graph is None:
        for child in net.children():
            _fold_inside(child)
        return
    for conv_name, norm_name in list(_pairs(net, graph)):
        conv, norm = net.get_submodule(conv_name), net.get_submodule(norm_name)
        assert isinstance(conv, nn.Conv2d)
        assert isinstance(norm, nn.modules.batchnorm._BatchNorm)
        assert norm.running_mean is not None
        assert norm.running_var is not None
        # In place: `fuse_conv_bn_eval` would copy the convolution once more.
        conv.weight, conv.bias = fuse_conv_bn_weights(
            conv.weight, conv.bias, norm.running_mean, norm.running_var,
            norm.eps, norm.weight, norm.bias,
        )  # fmt: skip
        net.set_submodule(norm_name, _after_norm(norm))
    # timm excludes some modules from traces (EfficientViT's attention); they are folded as well.
    for name in {str(node.target) for node in graph.nodes if node.op == "call_module"}:
        leaf = net.get_submodule(name)
        if is_notrace_module(type(leaf)):
            _fold_inside(leaf)


def _trace(net: nn.Module) -> fx.Graph | None:
    """The graph of `net(x)`, or None where it cannot be traced."""
    if not any(net.children()):
        return None
    parameters = inspect.signature(net.forward).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.default is not p.empty}
    try:
        return _Tracer().trace(net, concrete_args=defaults)
    except Exception:  # noqa: BLE001 - tracing runs the network's own code, which may raise anything
        return None


class _Tracer(fx.Tracer):
    def __init__(self) -> None:
        functions: list[Callable[..., Any]] = get_notrace_functions()
        super().__init__(autowrap_functions=tuple(functions))

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return is_notrace_module(type(m)) or super().is_leaf_module(m, module_qualified_name)

    def call_module(
        self,
        m: nn.Module,
        forward: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        # `m.forward` and not `forward`, so that tracing does not run the caller's hooks.
        return super().call_module(m, m.forward, args, kwargs)


def _pairs(net: nn.Module, graph: fx.Graph) -> Iterator[tuple[str, str]]:
    """The names of a convolution and a batch norm that always run one after the other."""
    modules = dict(net.named_modules(remove_duplicate=False))
    owners = Counter(id(module) for module in modules.values())
    calls = Counter(node.target for node in graph.nodes if node.op == "call_module")

    def once(node: fx.Node) -> bool:
        return calls[node.target] == 1 and owners[id(modules[str(node.target)])] == 1

    for norm in graph.nodes:
        conv = norm.args[0] if norm.op == "call_module" and norm.args else None
        if not isinstance(conv, fx.Node) or conv.op != "call_module" or len(conv.users) > 1:
            continue
        names = str(conv.target), str(norm.target)
        if once(conv) and once(norm) and _can_fold(modules[names[0]], modules[names[1]]):
            yield names


def _can_fold(conv: nn.Module, norm: nn.Module) -> bool:
    if type(conv) not in CONVOLUTIONS or type(norm) not in NORMS:
        return False
    hooks = any(m._forward_hooks or m._forward_pre_hooks for m in (conv, norm))
    return norm.running_mean is not None and not hooks


def _after_norm(norm: nn.Module) -> nn.Module:
    """The layers that timm puts into a norm, after the normalisation: drop, then activation."""
    if not isinstance(norm, BatchNormAct2d):
        return nn.Identity()
    if isinstance(norm.drop, nn.Identity):
        return norm.act
    return nn.Sequential(norm.drop, norm.act)
