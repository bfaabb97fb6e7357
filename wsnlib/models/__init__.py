"""Networks as plain `torch.nn.Module`s: width and depth are arguments, sparsity is unknown here."""

from wsnlib.models.mlp import MLP

__all__ = ["MLP"]
