"""Networks as plain `torch.nn.Module`s: width and depth are arguments, sparsity is unknown here."""

from wsnlib.models.mlp import MLP, scale_updates
from wsnlib.models.resnet18 import ResNet18, from_torchvision, initialise_fan_out
from wsnlib.models.resnet_cifar import ResNetCifar
from wsnlib.models.resnet_imagenet import ResNetImageNet

__all__ = [
    "MLP",
    "ResNet18",
    "ResNetCifar",
    "ResNetImageNet",
    "from_torchvision",
    "initialise_fan_out",
    "scale_updates",
]
