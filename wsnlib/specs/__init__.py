"""What an experiment is: frozen dataclasses, nested by composition, and their key.

Two specs with equal content have equal keys, on every machine and in every version of Python:
the key is a hash of canonical JSON that holds every field (defaults included), the class names
and [`SPEC_VERSION`][wsnlib.specs.experiments.SPEC_VERSION]. Device, paths and worker counts are not part of
a spec. This module needs the standard library only.
"""

from wsnlib.specs.data import (
    CIFAR10,
    CIFAR100,
    MNIST,
    SVHN,
    DataSpec,
    Digits,
    FashionMNIST,
    ImageNet,
    PackedData,
)
from wsnlib.specs.experiments import (
    KEY_LENGTH,
    READABLE_VERSIONS,
    SPEC_VERSION,
    Experiment,
    Run,
    canonical_json,
    derive_seed,
    from_dict,
    key,
    to_dict,
)
from wsnlib.specs.kernels import GaussianInputs, KernelDistances, KernelSimulation
from wsnlib.specs.networks import (
    ChannelSparsity,
    DenseSpec,
    LargestFirst,
    LastLayerDensity,
    LinearBottleneck,
    MLPSpec,
    ModelSpec,
    NonlinearBottleneck,
    ResNet18Spec,
    StaticSparsity,
    UniformDensity,
    WidenedSpec,
    widths,
)
from wsnlib.specs.training import (
    Constant,
    Cosine,
    CropAndFlip,
    MultiStep,
    OneCycle,
    ResizedCropAndFlip,
    Schedule,
    Training,
)

__all__ = [
    "CIFAR10",
    "CIFAR100",
    "KEY_LENGTH",
    "MNIST",
    "READABLE_VERSIONS",
    "SPEC_VERSION",
    "SVHN",
    "ChannelSparsity",
    "Constant",
    "Cosine",
    "CropAndFlip",
    "DataSpec",
    "DenseSpec",
    "Digits",
    "Experiment",
    "FashionMNIST",
    "GaussianInputs",
    "ImageNet",
    "KernelDistances",
    "KernelSimulation",
    "LargestFirst",
    "LastLayerDensity",
    "LinearBottleneck",
    "MLPSpec",
    "ModelSpec",
    "MultiStep",
    "NonlinearBottleneck",
    "OneCycle",
    "PackedData",
    "ResNet18Spec",
    "ResizedCropAndFlip",
    "Run",
    "Schedule",
    "StaticSparsity",
    "Training",
    "UniformDensity",
    "WidenedSpec",
    "canonical_json",
    "derive_seed",
    "from_dict",
    "key",
    "to_dict",
    "widths",
]
