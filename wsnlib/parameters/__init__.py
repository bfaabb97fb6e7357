"""The parameters of each chapter: one schema a chapter, checked before any work."""

from wsnlib.parameters.cka_blocks import CKABlocksParameters
from wsnlib.parameters.gp_kernel import GPKernelParameters
from wsnlib.parameters.resnet import BottlenecksParameters, ResNetParameters, ResNetSweepParameters
from wsnlib.parameters.scorecard import ScorecardParameters
from wsnlib.parameters.sparse_mlp import SparseMLPParameters
from wsnlib.parameters.wide_vs_deep_errors import WideVsDeepErrorsParameters
from wsnlib.parameters.your_network import YourNetworkParameters

__all__ = [
    "BottlenecksParameters",
    "CKABlocksParameters",
    "GPKernelParameters",
    "ResNetParameters",
    "ResNetSweepParameters",
    "ScorecardParameters",
    "SparseMLPParameters",
    "WideVsDeepErrorsParameters",
    "YourNetworkParameters",
]
