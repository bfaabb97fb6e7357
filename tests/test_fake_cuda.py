"""What a GPU would refuse, found without one.

A fake tensor has a shape, a type and a device, here `cuda:0`, and no values: an operation on tensors of two
devices is an error, and so is a value that the host would have to wait for. Backward passes need a device.
"""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensor, FakeTensorMode
from torch.fx.experimental.symbolic_shapes import ShapeEnv

import wsnlib as wsn
from wsnlib import masks, representations, similarity, specs
from wsnlib.data.augmentation import augment
from wsnlib.representations import cka

RESNET18, IMAGENET = (
    wsn.ResNet18Spec(width=3),
    wsn.ResNetImageNetSpec(width=5, third_stage_blocks=2, num_classes=10),
)
CIFAR, MLP = wsn.ResNetCifarSpec(depth=8), wsn.MLPSpec(width=5, inputs=64)
NETWORKS = {
    "mlp": (MLP, (1, 8, 8)),
    "resnet18": (RESNET18, (3, 11, 11)),
    "resnet-cifar": (CIFAR, (3, 13, 13)),
    "resnet-imagenet": (IMAGENET, (3, 37, 37)),
    "sparse mlp": (wsn.StaticSparsity(MLP, width=13), (1, 8, 8)),
    "sparse resnet18": (wsn.StaticSparsity(RESNET18, width=5), (3, 11, 11)),
    "sparse resnet-cifar": (wsn.StaticSparsity(CIFAR, width=19), (3, 13, 13)),
    "linear bottleneck": (wsn.LinearBottleneck(RESNET18, width=5), (3, 11, 11)),
    "nonlinear bottleneck": (wsn.NonlinearBottleneck(RESNET18, width=5), (3, 11, 11)),
    "channel mask": (wsn.ChannelSparsity(RESNET18, width=5), (3, 11, 11)),
}


def sizes_of_values() -> FakeTensorMode:
    """A mode in which a size may hang on values, as the number of mirrored images does."""
    return FakeTensorMode(allow_non_fake_inputs=True, shape_env=ShapeEnv())


@pytest.fixture
def gpu():
    """The mode in which fake tensors lie on `cuda:0`, and a function that moves networks there."""
    mode = FakeTensorMode(allow_non_fake_inputs=True)

    def moved(network: nn.Module) -> nn.Module:
        with mode:
            network._apply(lambda t: FakeTensor(mode, t.detach().to("meta"), torch.device("cuda:0")))
        for layer in network.modules():
            if isinstance(layer, masks.StaticMask):  # looked at once, when the layer has come to a device
                layer._seen = (layer.witness, 0)
        return network

    return mode, moved


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_stays_on_the_gpu_and_waits_for_no_value(gpu, name):
    mode, moved = gpu
    spec, shape = NETWORKS[name]
    network = moved(wsn.build(spec))
    with mode:
        logits = network(torch.empty(7, *shape, device="cuda"))
        loss = F.cross_entropy(logits, torch.empty(7, dtype=torch.int64, device="cuda"))
    assert (logits.device.type, tuple(logits.shape)) == ("cuda", (7, 10))
    assert loss.device.type == "cuda"


@pytest.mark.parametrize("fault", ["another device", "a value"])
def test_what_a_gpu_would_refuse_is_seen(gpu, fault):
    mode, moved = gpu

    class Faulty(nn.Module):
        def forward(self, x):
            return x + torch.ones(1, 5) if fault == "another device" else x * float(x.sum())

    network = moved(nn.Sequential(nn.Linear(3, 5), Faulty()))
    refusal = (DataDependentOutputException, RuntimeError)[fault == "another device"]
    with mode, pytest.raises(refusal):
        network(torch.empty(2, 3, device="cuda"))


@pytest.mark.parametrize("padding_mode", ["zeros", "reflect"])
@pytest.mark.parametrize("flip", [True, False])
def test_crops_are_made_on_the_gpu(padding_mode, flip):
    crop = specs.CropAndFlip(padding=2, padding_mode=padding_mode, flip=flip)
    with sizes_of_values():
        images = torch.empty(7, 3, 11, 11, dtype=torch.uint8, device="cuda")
        crops = augment(images, crop, generator=torch.Generator().manual_seed(0))
    assert (crops.device.type, crops.dtype, crops.shape) == ("cuda", torch.uint8, images.shape)


def test_batches_of_data_on_the_gpu_never_leave_it():
    digits = wsn.load_data(wsn.Digits(validation_size=100))
    with sizes_of_values():
        data = digits.to("cuda")
        order = torch.randperm(53)
        batches = data.train.batches(
            order, batch_size=17, augmentation=specs.CropAndFlip(padding=1), generator=torch.Generator()
        )
        for images, labels in batches:
            assert {images.device.type, labels.device.type, data.normalise(images).device.type} == {"cuda"}


LAYERS = ["conv", "stage1.block1.norm2", "stage1.block1.add", "stage2.block1.norm2"]


@pytest.mark.parametrize("without_component", [False, True])
def test_cka_takes_gram_matrices_on_the_gpu_and_waits_for_no_value(gpu, without_component):
    mode, moved = gpu
    network = moved(wsn.build(CIFAR)).eval()
    with mode:
        images = torch.empty(9, 3, 13, 13)  # wherever they lie
        shown = cka._network(network, images, LAYERS, None, "all")
        grams, count = cka._grams({"": shown}, {"": images}, without_component)
    assert count == 9
    assert grams.vector.shape == (len(LAYERS), 36) and grams.norm.shape == (len(LAYERS),)
    assert {grams.vector.device.type, grams.norm.device.type} == {"cuda"}
    assert (grams.vector.dtype, grams.norm.dtype) == (torch.float32, torch.float64)


def test_components_are_taken_on_the_gpu(gpu):
    mode, _ = gpu
    with mode:
        gram = similarity.centred(torch.empty(9, 9, dtype=torch.float64, device="cuda"))
        value, vector = similarity.first_component(gram)
    assert {gram.device.type, value.device.type, vector.device.type} == {"cuda"}
    assert (gram.dtype, vector.shape) == (torch.float64, (9,))


def test_a_representation_is_taken_apart_on_the_gpu(gpu, monkeypatch):
    """Whether a layer varies, and its component's share, are read by the host, here as numbers of no meaning."""
    mode, _ = gpu
    monkeypatch.setattr(FakeTensor, "__bool__", lambda self: False)
    monkeypatch.setattr(FakeTensor, "__float__", lambda self: 0.5)
    with mode:
        found = similarity.decompose(torch.empty(9, 5, 7, 7, device="cuda"))
    on_gpu = (found.gram, found.whole.vector, found.whole.norm, found.rest.vector, found.rest.norm)
    assert {x.device.type for x in on_gpu} == {"cuda"}
    assert (found.direction.device.type, found.direction.dtype) == ("cpu", torch.float64)
    assert found.rest.vector.shape == (36,)


def test_features_of_probes_are_pooled_on_the_gpu_and_fitted_on_the_host(gpu):
    mode, moved = gpu
    network, pooled_on = moved(wsn.build(CIFAR)), set()

    def pooled(x: torch.Tensor) -> torch.Tensor:
        pooled_on.add(x.device.type)
        return F.adaptive_avg_pool2d(x, 2) if x.dim() == 4 else x

    with mode:
        images = torch.empty(9, 3, 13, 13)
        found = representations.read_representations(
            network, images, layers=LAYERS, batch_size=4, reduce=pooled
        )
    assert pooled_on == {"cuda"}
    assert {name: (x.device.type, len(x)) for name, x in found.items()} == dict.fromkeys(LAYERS, ("cpu", 9))
