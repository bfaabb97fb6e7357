"""Which runs each chapter needs: what its page reads, and what `wsn run` makes.

Some runs depend on what others gave (learning rates that were tried, a pair that was matched), so the runs
of a chapter come in stages.
"""

from wsnlib.chapters.cka_blocks import CKABlocksRuns
from wsnlib.chapters.gp_kernel import GPKernelRuns
from wsnlib.chapters.resnets import bottleneck_runs, imagenet_runs, resnet_runs
from wsnlib.chapters.sparse_mlp import sparse_mlp_runs
from wsnlib.chapters.stages import chapter_stages, read_parameters
from wsnlib.chapters.wide_vs_deep_errors import WideVsDeepRuns
from wsnlib.chapters.your_network import YourNetworkRuns

__all__ = [
    "CKABlocksRuns",
    "GPKernelRuns",
    "WideVsDeepRuns",
    "YourNetworkRuns",
    "bottleneck_runs",
    "chapter_stages",
    "imagenet_runs",
    "read_parameters",
    "resnet_runs",
    "sparse_mlp_runs",
]
