"""Which sparse layers may leave their output in groups for the layers after them."""

from __future__ import annotations

import copy
import operator

import torch
import torch.nn.functional as F
from torch import fx, nn

from wsnlib.models.resnet_cifar import SameConv2d
from wsnlib.sparse.layers import SparseConv2d, SparseLayer

PASSING_MODULES = (nn.BatchNorm2d, nn.ReLU, nn.MaxPool2d, nn.AvgPool2d, nn.Identity)
PASSING_FUNCTIONS = (
    F.relu,
    torch.relu,
    torch.relu_,
    torch.add,
    operator.add,
    operator.iadd,
    F.batch_norm,
    F.max_pool2d,
    F.avg_pool2d,
)
OF_TORCH = ("torch", "_operator", "builtins")
PASSING_METHODS = ("relu", "relu_", "add", "add_")
"""What works on images in groups and gives such; what is not among these and of torch gets a plain tensor."""


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        # a padding that follows from the size of the images cannot be traced; it is torch's functions, too
        return isinstance(m, SparseLayer | SameConv2d) or super().is_leaf_module(m, module_qualified_name)


def traced(model: nn.Module) -> fx.Graph | None:
    """What a network does to images, its layers as they are; None if it cannot be traced.

    Examples:
        >>> graph = traced(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU()))
        >>> [node.op for node in graph.nodes]
        ['placeholder', 'call_module', 'call_module', 'output']
    """
    try:
        copied = copy.deepcopy(model)
        for module in copied.modules():
            module._forward_hooks.clear()
            module._forward_pre_hooks.clear()
        return _Tracer().trace(copied)
    except Exception:  # whatever a forward pass does to what is no tensor
        return None


def keeping_layers(model: nn.Module) -> set[str]:
    """Names of sparse convolutions whose output reaches nothing but functions of torch.

    A network that cannot be traced has none, as its forward pass may do anything.

    Examples:
        >>> from wsnlib import masks, sparse
        >>> net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.Flatten())
        >>> net = masks.sparsify(net, num_weights=99, generator=torch.Generator())
        >>> sorted(keeping_layers(sparse.to_sparse(net))), sorted(keeping_layers(net[:3]))
        (['0', '2'], ['0'])
    """
    layers = {name for name, layer in model.named_modules() if isinstance(layer, SparseConv2d)}
    graph = traced(model) if layers else None
    if graph is None:
        return set()
    sources: dict[fx.Node, set[str]] = {}
    converting: set[str] = set()
    for node in graph.nodes:
        given = set[str]().union(*(sources[each] for each in node.all_input_nodes))
        sources[node] = set()
        if node.op == "call_module":
            module = model.get_submodule(str(node.target))
            if isinstance(module, SparseConv2d):
                sources[node] = {str(node.target)}
            elif isinstance(module, PASSING_MODULES):
                sources[node] = given
        elif node.op == "call_function":
            if node.target in PASSING_FUNCTIONS:
                sources[node] = given
            elif not str(getattr(node.target, "__module__", "")).startswith(OF_TORCH):
                converting |= given
        elif node.op == "call_method":
            sources[node] = given if node.target in PASSING_METHODS else set()
        elif node.op == "output":
            converting |= given
    return layers - converting
