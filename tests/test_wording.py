"""What is refused is said in exactly these words: which value, what it must be, and what to do."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune

from wsnlib import data, estimates, masks, similarity, specs, widening
from wsnlib.models import MLP, ResNet18, ResNetCifar, ResNetImageNet
from wsnlib.sparse import estimated_costs, to_sparse
from wsnlib.store import records
from wsnlib.widening import LayerPair

RAMP = np.exp(-np.abs(np.subtract.outer(np.arange(9.0), np.arange(9.0))))
SIZES = {"a": 30, "b": 7}
SHAPES = {"a": (4, 3, 3, 3), "c": (2, 5)}
RUN = specs.Experiment(model=specs.MLPSpec(width=5), data=specs.MNIST(), training=specs.Training(epochs=1))
RESNET = specs.Experiment(
    model=specs.ResNetCifarSpec(depth=14), data=specs.CIFAR10(), training=specs.Training(epochs=9)
)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def net(*changes) -> nn.Sequential:
    made = nn.Sequential(nn.Linear(5, 7), nn.Linear(7, 3))
    for change in changes:
        change(made)
    return made


def sparsified(*changes, num_weights=20, **more):
    return masks.sparsify(net(*changes), num_weights=num_weights, generator=generator(), **more)


def native():
    return to_sparse(sparsified())


def twice_masked():
    made = masks.sparsify(net(), allocation={"0": 20}, generator=generator())
    parametrize.register_parametrization(made[0], "weight", nn.Identity())
    return made


def copied_over():
    """A network with the buffers of one of another mask."""
    made, other = sparsified(), masks.sparsify(net(), num_weights=20, generator=torch.Generator())
    for ours, theirs in zip(made.buffers(), other.buffers(), strict=True):
        ours.copy_(theirs)
    return made


def tied(made):
    made[0].bias = nn.Parameter(made[1].weight.data[0])
    made[0].weight.data = made[1].weight.data.view(7, 3)


def pruned(made):
    prune.identity(made[0], "weight")


def computed(made):
    parametrizations.weight_norm(made[0])


def whole(made):
    made[0].bias = nn.Parameter(torch.ones(7, dtype=torch.int8), requires_grad=False)


def lazy(made):
    made[1] = nn.LazyLinear(3)


def hooked(made):
    made[0].register_forward_hook(print)


def split(made, sizes):
    return widening.linear_bottleneck(made, sizes=sizes, generator=generator())


PAIRS = [LayerPair("0", "1")]


def narrowed(made, sizes, pairs=PAIRS):
    return widening.nonlinear_bottleneck(made, sizes=sizes, pairs=pairs, generator=generator())


def gpu():
    class OnGPU:
        device = torch.device("cuda", 0)

    return OnGPU()


INPUTS = specs.GaussianInputs(dimension=5)
KINDS = ", ".join(specs.experiments._CLASSES)


def distances(**fields):
    return specs.KernelDistances(**{"inputs": INPUTS, "densities": (1, 0.5), "num_pairs": 3} | fields)


def simulation(**fields):
    given = {"inputs": INPUTS, "widths": (3, 5), "densities": (1, 0.5), "num_pairs": 3, "num_networks": 2}
    return specs.KernelSimulation(**given | fields)


TABLE = similarity.CKAMatrix(
    rows=("a",), columns=("b",), values=np.ones((1, 1)), standard_errors=np.zeros((1, 1))
)
MISSING = pd.DataFrame({"width": [5, 9, 5, 9], "seed": [0, 0, 1, 1], "test_accuracy": [math.nan] * 4})

REFUSALS = [
    # masks
    (
        lambda: masks.allocate({}, num_weights=1),
        "a network must have Linear or Conv layers to keep weights in, got none; add one",
    ),
    (lambda: masks.allocate(SIZES, num_weights=True), "num_weights must be an integer, got True; round it"),
    (
        lambda: masks.allocate(SIZES, num_weights=38),
        "num_weights must be 2 to 37, got 38; change it, or the width",
    ),
    (
        lambda: masks.allocate(SIZES, num_weights=1),
        "num_weights must be 2 to 37, got 1; change it, or the width",
    ),
    (
        lambda: masks.allocate({f"layer{i}": 3 for i in range(8)}, num_weights=9, density={"x": 1}),
        "density must name layers, got 'x'; choose from layer0, layer1, layer2, layer3, layer4, layer5 and 2 more",
    ),
    (
        lambda: masks.allocate({f"layer{i}": 3 for i in range(6)}, num_weights=9, density={"x": 1}),
        "density must name layers, got 'x'; choose from layer0, layer1, layer2, layer3, layer4, layer5",
    ),
    (
        lambda: masks.allocate(SIZES, num_weights=9, density={"a": 0}),
        "the density of a must be > 0 and ≤ 1, got 0; give such a number",
    ),
    (
        lambda: masks.allocate({**SIZES, "c": 2}, num_weights=9, density={"a": 0.3, "c": 1.0}),
        "num_weights must leave 1 to 7 for b, got 9, which leaves -2 beside 9 in a, 2 in c; change it, or fix fewer layers",
    ),
    (
        lambda: masks.allocate(SIZES, num_weights=9, density={"a": 0.1, "b": 0.2}),
        "num_weights must leave 0 to 0 for no other layer, got 9, which leaves 5 beside 3 in a, 1 in b; change it, or fix fewer layers",
    ),
    (
        lambda: masks.allocate(
            {"a": 30, "b": 70, "c": 2, "d": 2}, num_weights=13, rule="uniform", density={"a": 0.1}
        ),
        "num_weights must be larger for the rule 'uniform', got 13, which leaves none in c, d; give it a density, or allocate the largest first",
    ),
    (
        lambda: masks.whole_kernels({"a": 95, "c": 5}, layer_shapes=SHAPES, fixed=["a"]),
        "the weights kept in a must be a multiple of 9 for whole kernels, got 95; round its density",
    ),
    (
        lambda: masks.whole_kernels({"a": 96, "c": 1}, layer_shapes=SHAPES, fixed=["c"]),
        "whole kernels must add up to 97 weights, got -3 left over; leave the number of weights free of a layer with kernels of one weight, such as a Linear layer",
    ),
    (
        lambda: masks.draw_mask((3, 5), num_weights=16, generator=generator()),
        "num_weights must be 0 to 15 for shape (3, 5), got 16; change it",
    ),
    (
        lambda: masks.draw_mask((3, 5), num_weights=-1, generator=generator()),
        "num_weights must be 0 to 15 for shape (3, 5), got -1; change it",
    ),
    (
        lambda: masks.draw_mask((3, 5, 2), num_weights=7, pattern="channels", generator=generator()),
        "num_weights must be a multiple of 2 for whole kernels of shape (3, 5, 2), got 7; round it",
    ),
    (
        lambda: masks.draw_mask((3, 5), num_weights=7, generator=gpu()),
        "the generator must be on the CPU, got one on cuda:0; write torch.Generator()",
    ),
    (
        lambda: sparsified(initialisation="mine"),
        "initialisation must be one of 'released', 'unscaled', got 'mine'",
    ),
    (
        lambda: sparsified(pattern="rows"),
        "pattern must be one of 'random', 'channels', 'constant_fan_in', 'balanced', 'blocks', got 'rows'",
    ),
    (lambda: sparsified(exclude=["9", "8"]), "8, 9 must be a layer, got none; choose from 0, 1"),
    (
        lambda: sparsified(allocation={"0": 3}),
        "one of num_weights and allocation must be given, got both; leave the other None",
    ),
    (
        lambda: sparsified(num_weights=None),
        "one of num_weights and allocation must be given, got neither; leave the other None",
    ),
    (
        lambda: sparsified(num_weights=None, allocation={"0": 3, "1": 2}, exclude=["1", "0"]),
        "excluded layers must not be in the allocation, got 0, 1; leave it out of one",
    ),
    (
        lambda: sparsified(num_weights=None, allocation={"0": 36}),
        "the weights kept in 0 must be an integer of 1 to 35, got 36; change the allocation",
    ),
    (
        lambda: masks.sparsify(
            nn.Sequential(nn.Conv1d(3, 5, 2)),
            allocation={"0": 7},
            pattern="channels",
            generator=generator(),
        ),
        "the weights kept in 0 must be a multiple of 2 for whole kernels, got 7; round it",
    ),
    (
        lambda: sparsified(tied),
        "the weight of 0 must be its own, got one tensor for 0.weight and 0.bias and 1.weight; exclude 0",
    ),
    (
        lambda: sparsified(pruned),
        "the weight of 0 must be a parameter, got what a hook computes (pruning, weight or spectral norm); exclude 0 or remove the hook as torch.nn.utils.prune.remove does",
    ),
    (
        lambda: sparsified(computed),
        "the weight of 0 must be a parameter, got one that is computed already; exclude 0 or build anew",
    ),
    (
        lambda: sparsified(whole),
        "the bias of 0 must be a plain floating-point parameter, got Parameter of torch.int8; exclude 0",
    ),
    (lambda: sparsified(lazy), "1 must have its weights, got a lazy layer; call the model on a batch first"),
    (
        lambda: masks.densify(native()),
        "0 must be a masked layer, got a sparse-compute layer; call wsn.to_dense first",
    ),
    (
        lambda: masks.densify(twice_masked()),
        "the weight of 0 must have no other parametrisation, got Identity; remove it",
    ),
    (
        lambda: setattr(sparsified()[0], "weight", torch.zeros(5, 7)),
        "the weight of this layer must be of shape (7, 5), got (5, 7); give one entry for each of the dense layer, removed ones included",
    ),
    (
        lambda: sparsified()[0].weight.zero_(),
        "the weight of a sparse layer must be assigned as a whole, got zero_ on a copy of it; write layer.weight = …, or initialise the layers before wsn.sparsify",
    ),
    (
        lambda: setattr(sparsified()[0].parametrizations["weight"][0], "mask", torch.ones(5, 7).bool()),
        "a mask must be of the weight's shape (7, 5), got (5, 7); make a network of that width",
    ),
    # widening
    (
        lambda: widening.bottleneck_sizes(
            {"a": widening.Bottleneck(5, 3)}, num_weights=4, proportions={"a": 1}
        ),
        "bottlenecks must hold 5 (one unit each) to 15 weights, got 4",
    ),
    (
        lambda: widening.linear_bottleneck_sizes(net(), num_weights=21),
        "num_weights must be 22 to 90 with linear bottlenecks of 1 unit to full rank, got 21; change it, or the width",
    ),
    (
        lambda: widening.linear_bottleneck_sizes(net(), num_weights=99, exclude=["1"]),
        "num_weights must be 33 to 81 with linear bottlenecks of 1 unit to full rank, got 99; change it, or the width",
    ),
    (
        lambda: widening.linear_bottleneck_sizes(net(), exclude=["8", "9"]),
        "exclude must name layers, got 8, 9; choose from 0, 1",
    ),
    (
        lambda: widening.linear_bottleneck_sizes(net(), num_weights=50, like={}),
        "like must have the weights of each layer, got none of 0, 1; add them",
    ),
    (lambda: split(net(), {"2": 1}), "2 must be a layer, got none; choose from 0, 1"),
    (lambda: split(net(), {"0": 6}), "the bottleneck of 0 must be an integer of 1 to 5, got 6"),
    (lambda: split(net(), {"0": 0}), "the bottleneck of 0 must be an integer of 1 to 5, got 0"),
    (lambda: split(net(), {"0": True}), "the bottleneck of 0 must be an integer of 1 to 5, got True"),
    (
        lambda: split(nn.Linear(5, 3), {"": 1}),
        "the model must hold its layers, got one Linear; put it into a Sequential",
    ),
    (
        lambda: split(net(hooked), {"0": 1}),
        "0 must have no hooks, got some; remove them, and add them to the new layer",
    ),
    (
        lambda: split(nn.Sequential(nn.Conv1d(4, 6, 1, groups=2)), {"0": 1}),
        "0 must be a convolution in 1 group, got one in 2; leave it out",
    ),
    (
        lambda: split(nn.Sequential(nn.modules.linear.NonDynamicallyQuantizableLinear(3, 3)), {"0": 1}),
        "0 must be a plain Linear or Conv layer, got a NonDynamicallyQuantizableLinear; leave it out",
    ),
    (
        lambda: widening.layer_pairs(net()),
        "pairs must be given for networks other than MLP and ResNet18, got a Sequential; give pairs",
    ),
    (
        lambda: widening.layer_pairs(MLP(3)),
        "an MLP must have at least 2 hidden layers for a pair of layers, got 1; add one",
    ),
    (
        lambda: widening.nonlinear_bottleneck_sizes(MLP(7, inputs=5, hidden_layers=3), num_weights=9),
        "num_weights must be 119 to 203 with inner widths of 1 to full, 105 of them outside the pairs, got 9; change it, or the width",
    ),
    (lambda: narrowed(net(), {"1": 2}), "sizes must name the first layers of pairs, got 1; choose from 0"),
    (lambda: narrowed(net(), {"0": 8}), "the bottleneck of 0 must be an integer of 1 to 7, got 8"),
    (
        lambda: narrowed(
            nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 3)),
            {"0": 2, "1": 2},
            [LayerPair("0", "1"), LayerPair("1", "2")],
        ),
        "a layer must be in one pair, got 1 in two; widen them in two calls",
    ),
    (
        lambda: narrowed(nn.Sequential(nn.Linear(5, 7), nn.Linear(6, 3)), {"0": 2}),
        "1 must read the 7 outputs of 0, got another number of inputs; change the pair",
    ),
    (
        lambda: narrowed(net(), {"0": 2}, [LayerPair("0", "1", ("2",))]),
        "2 must be a batch norm layer, got another; leave it out",
    ),
    (
        lambda: narrowed(
            nn.Sequential(nn.Linear(5, 7), nn.BatchNorm1d(6), nn.Linear(7, 3)),
            {"0": 2},
            [LayerPair("0", "2", ("1",))],
        ),
        "1 must be of the 7 outputs of 0, got 6",
    ),
    # specs
    (lambda: specs.MLPSpec(width=0), "MLPSpec.width must be an integer ≥ 1, got 0"),
    (lambda: specs.MLPSpec(width=True), "MLPSpec.width must be an integer ≥ 1, got True"),
    (lambda: specs.MLPSpec(width=5, outputs=0), "MLPSpec.outputs must be an integer ≥ 1, got 0"),
    (
        lambda: specs.MLPSpec(width=5, activation="tanh"),
        "MLPSpec.activation must be one of 'relu', 'linear', got 'tanh'",
    ),
    (
        lambda: specs.MLPSpec(width=5, parametrisation="mup"),
        "MLPSpec.parametrisation must be one of 'standard', 'ntk', 'sparse_mu', got 'mup'",
    ),
    (lambda: specs.MLPSpec(width=5, bias=1), "MLPSpec.bias must be True or False, got 1"),
    (
        lambda: specs.ResNet18Spec(width=5, input_channels=0),
        "ResNet18Spec.input_channels must be an integer ≥ 1, got 0",
    ),
    (
        lambda: specs.ResNet18Spec(width=5, stem="tiny"),
        "ResNet18Spec.stem must be one of 'cifar', 'imagenet', got 'tiny'",
    ),
    (
        lambda: specs.ResNet18Spec(width=5, initialisation="fan_in"),
        "ResNet18Spec.initialisation must be one of 'default', 'fan_out', got 'fan_in'",
    ),
    (
        lambda: specs.ResNetCifarSpec(depth=2),
        "ResNetCifarSpec.depth must be 6n + 2 for n ≥ 1, such as 8, 14 or 20, got 2",
    ),
    (
        lambda: specs.ResNetCifarSpec(depth=9),
        "ResNetCifarSpec.depth must be 6n + 2 for n ≥ 1, such as 8, 14 or 20, got 9",
    ),
    (
        lambda: specs.ResNetCifarSpec(depth=8, width_multiplier=0.06),
        "ResNetCifarSpec.width_multiplier must be a number ≥ 0.0625, got 0.06",
    ),
    (
        lambda: specs.ResNetCifarSpec(depth=8, residual=None),
        "ResNetCifarSpec.residual must be True or False, got None",
    ),
    (
        lambda: specs.ResNetCifarSpec(depth=8, details="mine"),
        "ResNetCifarSpec.details must be one of 'released', 'torchvision', got 'mine'",
    ),
    (
        lambda: specs.ResNetCifarSpec(depth=8, norm_momentum=0),
        "ResNetCifarSpec.norm_momentum must be a number > 0 and ≤ 1, got 0",
    ),
    (
        lambda: specs.ResNetImageNetSpec(third_stage_blocks=0),
        "ResNetImageNetSpec.third_stage_blocks must be an integer ≥ 1, got 0",
    ),
    (
        lambda: specs.ResNetImageNetSpec(third_stage_width_multiplier=0.06),
        "ResNetImageNetSpec.third_stage_width_multiplier must be a number ≥ 0.0625, got 0.06",
    ),
    (
        lambda: specs.ResNetImageNetSpec(initialisation="fan_in"),
        "ResNetImageNetSpec.initialisation must be one of 'default', 'fan_out', got 'fan_in'",
    ),
    (
        lambda: specs.widths(specs.MLPSpec(width=5), widening_factors=[0.5]),
        "a widening factor must be a number ≥ 1, got 0.5",
    ),
    (
        lambda: specs.StaticSparsity(specs.MLPSpec(width=5), width=4),
        "StaticSparsity.width must be an integer of at least the base width 5, got 4",
    ),
    (
        lambda: specs.StaticSparsity("mlp", width=4),
        "StaticSparsity.base must be a MLPSpec or ResNet18Spec or ResNetCifarSpec or ResNetImageNetSpec, got 'mlp'",
    ),
    (
        lambda: specs.StaticSparsity(specs.MLPSpec(width=5), width=5, allocation="uniform"),
        "StaticSparsity.allocation must be a LargestFirst or UniformDensity or ErdosRenyi or Balanced or Pyramidal or LastLayerDensity, got 'uniform'",
    ),
    (
        lambda: specs.StaticSparsity(specs.MLPSpec(width=5), width=5, initialisation="scaled"),
        "StaticSparsity.initialisation must be one of 'released', 'unscaled', got 'scaled'",
    ),
    (
        lambda: specs.LastLayerDensity(density=0),
        "LastLayerDensity.density must be a number > 0 and ≤ 1, got 0",
    ),
    (
        lambda: specs.LastLayerDensity(density=1.1),
        "LastLayerDensity.density must be a number > 0 and ≤ 1, got 1.1",
    ),
    (
        lambda: specs.LinearBottleneck("net", width=16),
        "LinearBottleneck.base must be a MLPSpec or ResNet18Spec, got 'net'",
    ),
    (
        lambda: specs.LinearBottleneck(specs.MLPSpec(width=5), width=5, keeps="all"),
        "LinearBottleneck.keeps must be one of 'base', 'factorised_base', got 'all'",
    ),
    (
        lambda: specs.NonlinearBottleneck("net", width=16),
        "NonlinearBottleneck.base must be a MLPSpec or ResNet18Spec, got 'net'",
    ),
    (
        lambda: specs.CustomSpec("network"),
        "CustomSpec.factory must be the name of a function or class with its module, 'module.name', got 'network'",
    ),
    (
        lambda: specs.CustomSpec("__main__.network"),
        "CustomSpec.factory must be a module in a file of its own, which every process can import, got '__main__.network'",
    ),
    (
        lambda: specs.CustomSpec("a.b", options=[1]),
        "CustomSpec.options must be a mapping of names to plain values, got [1]",
    ),
    (
        lambda: specs.CustomSpec("a.b", options={"class": 1}),
        "CustomSpec.options must be names of keyword arguments, got 'class'",
    ),
    (
        lambda: specs.CustomSpec("a.b", options={"x": [[1]]}),
        "CustomSpec.options['x'] must be a finite number, a string, True, False, None or a flat list of these, got [[1]]",
    ),
    (
        lambda: specs.CustomSpec("a.b", options={"x": float("inf")}),
        "CustomSpec.options['x'] must be a finite number, a string, True, False, None or a flat list of these, got inf",
    ),
    (
        lambda: specs.CustomSparsity("a.b", specs.CustomSpec("a.b")),
        "CustomSparsity.base must be a CustomSpec, got 'a.b'",
    ),
    (
        lambda: specs.CustomSparsity(specs.CustomSpec("a.b"), "a.b"),
        "CustomSparsity.wide must be a CustomSpec, got 'a.b'",
    ),
    (
        lambda: specs.CustomSparsity(specs.CustomSpec("a.b"), specs.CustomSpec("a.b"), exclude="fc"),
        "CustomSparsity.exclude must be a sequence of names of layers, got 'fc'",
    ),
    (
        lambda: specs.CustomSparsity(specs.CustomSpec("a.b"), specs.CustomSpec("a.b"), allocation=1),
        "CustomSparsity.allocation must be a LargestFirst or UniformDensity or ErdosRenyi or Balanced or Pyramidal or LastLayerDensity, got 1",
    ),
    (
        lambda: specs.CustomSparsity(specs.CustomSpec("a.b"), specs.CustomSpec("a.b"), initialisation=1),
        "CustomSparsity.initialisation must be one of 'released', 'unscaled', got 1",
    ),
    (
        lambda: specs.MultiStep(milestones=(0.5, 0.5)),
        "MultiStep.milestones must be a rising sequence of fractions between 0 and 1, got (0.5, 0.5)",
    ),
    (
        lambda: specs.MultiStep(milestones=()),
        "MultiStep.milestones must be a rising sequence of fractions between 0 and 1, got ()",
    ),
    (
        lambda: specs.MultiStep(milestones=(0.5, 1)),
        "MultiStep.milestones must be a rising sequence of fractions between 0 and 1, got (0.5, 1)",
    ),
    (
        lambda: specs.MultiStep(milestones=(0.5,), factor=0),
        "MultiStep.factor must be a number > 0 and ≤ 1, got 0",
    ),
    (lambda: specs.OneCycle(warmup=1), "OneCycle.warmup must be a number > 0 and < 1, got 1"),
    (lambda: specs.OneCycle(start=-0.1), "OneCycle.start must be a number ≥ 0 and ≤ 1, got -0.1"),
    (lambda: specs.OneCycle(end=1.5), "OneCycle.end must be a number ≥ 0 and ≤ 1, got 1.5"),
    (lambda: specs.CropAndFlip(padding=-1), "CropAndFlip.padding must be an integer ≥ 0, got -1"),
    (
        lambda: specs.CropAndFlip(padding_mode="wrap"),
        "CropAndFlip.padding_mode must be one of 'zeros', 'reflect', got 'wrap'",
    ),
    (lambda: specs.CropAndFlip(flip=2), "CropAndFlip.flip must be True or False, got 2"),
    (
        lambda: specs.ResizedCropAndFlip(scale=(0.5, 0.2)),
        "ResizedCropAndFlip.scale must be two rising numbers > 0 and ≤ 1, got (0.5, 0.2)",
    ),
    (lambda: specs.ResizedCropAndFlip(flip=2), "ResizedCropAndFlip.flip must be True or False, got 2"),
    (lambda: specs.Training(epochs=0), "Training.epochs must be an integer ≥ 1, got 0"),
    (lambda: specs.Training(epochs=1, batch_size=0), "Training.batch_size must be an integer ≥ 1, got 0"),
    (
        lambda: specs.Training(epochs=1, evaluate_every=0),
        "Training.evaluate_every must be an integer ≥ 1, got 0",
    ),
    (lambda: specs.Training(epochs=1, learning_rate=0), "Training.learning_rate must be a number > 0, got 0"),
    (lambda: specs.Training(epochs=1, momentum=1), "Training.momentum must be a number ≥ 0 and < 1, got 1"),
    (lambda: specs.Training(epochs=1, weight_decay=-1), "Training.weight_decay must be a number ≥ 0, got -1"),
    (
        lambda: specs.Training(epochs=1, weight_decay_on="biases"),
        "Training.weight_decay_on must be one of 'all', 'weights', got 'biases'",
    ),
    (
        lambda: specs.Training(epochs=1, schedule="cosine"),
        "Training.schedule must be a Constant or MultiStep or Cosine or OneCycle, got 'cosine'",
    ),
    (
        lambda: specs.Training(epochs=1, augmentation="flip"),
        "Training.augmentation must be a CropAndFlip or ResizedCropAndFlip, got 'flip'",
    ),
    (
        lambda: specs.Training(epochs=1, precision="float16"),
        "Training.precision must be one of 'float32', 'bfloat16', got 'float16'",
    ),
    (
        lambda: specs.Training(epochs=1, report="best"),
        "Training.report must be one of 'last', 'best_validation', 'best_test', got 'best'",
    ),
    (
        lambda: specs.Experiment(model="mlp", data=RUN.data, training=RUN.training),
        "Experiment.model must be a MLPSpec or ResNet18Spec or ResNetCifarSpec or ResNetImageNetSpec or StaticSparsity or LinearBottleneck or NonlinearBottleneck or CustomSpec or CustomSparsity, got 'mlp'",
    ),
    (
        lambda: specs.Experiment(model=RUN.model, data="mnist", training=RUN.training),
        "Experiment.data must be a DataSpec, got 'mnist'",
    ),
    (
        lambda: specs.Experiment(model=RUN.model, data=RUN.data, training=1),
        "Experiment.training must be a Training, got 1",
    ),
    (
        lambda: specs.Experiment(model=RUN.model, data=RUN.data, training=RUN.training, seed=-1),
        "Experiment.seed must be an integer ≥ 0, got -1",
    ),
    (
        lambda: specs.Experiment(
            model=RUN.model,
            data=specs.MNIST(validation_size=0),
            training=specs.Training(epochs=1, report="best_validation"),
        ),
        "data.validation_size must be ≥ 1 with Training.report 'best_validation', got 0; set images aside",
    ),
    (lambda: specs.BlockOrigins("run"), "BlockOrigins.experiment must be a Experiment, got 'run'"),
    (
        lambda: specs.BlockOrigins(RUN),
        "BlockOrigins.experiment must train a ResNetCifarSpec, got a MLPSpec",
    ),
    (
        lambda: specs.BlockOrigins(RESNET, probes=True),
        "data.validation_size must be ≥ 1 for BlockOrigins.probes, got 0; set images aside",
    ),
    (
        lambda: specs.BlockOrigins(RESNET, epochs=[0, 9]),
        "BlockOrigins.epochs must be rising integers from 0 to 8, before the last epoch, got (0, 9)",
    ),
    (
        lambda: specs.BlockOrigins(RESNET, epochs=[-1]),
        "BlockOrigins.epochs must be rising integers from 0 to 8, before the last epoch, got (-1,)",
    ),
    (
        lambda: specs.BlockOrigins(RESNET, epochs=[1, 1]),
        "BlockOrigins.epochs must be rising integers from 0 to 8, before the last epoch, got (1, 1)",
    ),
    (
        lambda: specs.BlockOrigins(RESNET, num_images=7),
        "BlockOrigins.num_images must be an integer ≥ 8, got 7",
    ),
    (
        lambda: specs.BlockOrigins(RESNET, num_removed=0),
        "BlockOrigins.num_removed must be an integer ≥ 1, got 0",
    ),
    (
        lambda: specs.BlockOrigins(RESNET, num_rotated=3),
        "BlockOrigins.num_rotated must be an integer ≥ 4, got 3",
    ),
    (
        lambda: specs.BlockOrigins(RESNET, num_images=23),
        "BlockOrigins.num_removed must be at most 9 of num_images 23, got 10",
    ),
    (lambda: specs.BlockOrigins(RESNET, probes=1), "BlockOrigins.probes must be True or False, got 1"),
    (lambda: specs.BlockOrigins(RESNET, seed=-1), "BlockOrigins.seed must be an integer ≥ 0, got -1"),
    (
        lambda: specs.OutputSimilarity([]),
        "OutputSimilarity.experiments must be a sequence of at least two Experiments, got ()",
    ),
    (
        lambda: specs.OutputSimilarity([1, 2]),
        "OutputSimilarity.experiments must be a sequence of at least two Experiments, got (1, 2)",
    ),
    (
        lambda: specs.OutputSimilarity([RESNET, RUN]),
        "OutputSimilarity.experiments must be on one data set, got CIFAR10 and MNIST",
    ),
    (
        lambda: specs.OutputSimilarity([RESNET, RESNET], num_images=3),
        "OutputSimilarity.num_images must be an integer ≥ 4, got 3",
    ),
    (
        lambda: specs.OutputSimilarity([RESNET, RESNET], seed=-1),
        "OutputSimilarity.seed must be an integer ≥ 0, got -1",
    ),
    (lambda: specs.GaussianInputs(dimension=0), "GaussianInputs.dimension must be an integer ≥ 1, got 0"),
    (lambda: distances(inputs=5), "KernelDistances.inputs must be a GaussianInputs or DataSpec, got 5"),
    (
        lambda: distances(densities=()),
        "KernelDistances.densities must be a sequence of numbers > 0 and ≤ 1, got ()",
    ),
    (
        lambda: distances(densities=(0.5, 0)),
        "KernelDistances.densities must be a sequence of numbers > 0 and ≤ 1, got (0.5, 0)",
    ),
    (
        lambda: distances(densities=(1.5,)),
        "KernelDistances.densities must be a sequence of numbers > 0 and ≤ 1, got (1.5,)",
    ),
    (lambda: distances(num_pairs=0), "KernelDistances.num_pairs must be an integer ≥ 1, got 0"),
    (lambda: distances(seed=-1), "KernelDistances.seed must be an integer ≥ 0, got -1"),
    (lambda: simulation(inputs=5), "KernelSimulation.inputs must be a GaussianInputs or DataSpec, got 5"),
    (lambda: simulation(widths=()), "KernelSimulation.widths must be a sequence of integers ≥ 1, got ()"),
    (
        lambda: simulation(widths=(3, 0)),
        "KernelSimulation.widths must be a sequence of integers ≥ 1, got (3, 0)",
    ),
    (
        lambda: simulation(densities=(1,)),
        "KernelSimulation.densities must be a sequence of 2 numbers, one for each width, got (1.0,)",
    ),
    (
        lambda: simulation(scaled_by=(1, 0)),
        "KernelSimulation.scaled_by must be a sequence of numbers > 0 and ≤ 1, got (1, 0)",
    ),
    (
        lambda: simulation(scaled_by=(1,)),
        "KernelSimulation.scaled_by must be a sequence of 2 numbers, one for each width, got (1.0,)",
    ),
    (
        lambda: simulation(distribution="cauchy"),
        "KernelSimulation.distribution must be one of 'normal', 'uniform', got 'cauchy'",
    ),
    (lambda: simulation(exact_count=1), "KernelSimulation.exact_count must be True or False, got 1"),
    (lambda: simulation(num_pairs=0), "KernelSimulation.num_pairs must be an integer ≥ 1, got 0"),
    (lambda: simulation(num_networks=0), "KernelSimulation.num_networks must be an integer ≥ 1, got 0"),
    (lambda: simulation(seed=-1), "KernelSimulation.seed must be an integer ≥ 0, got -1"),
    (lambda: specs.ExampleLabels(data="mnist"), "ExampleLabels.data must be a DataSpec, got 'mnist'"),
    (
        lambda: specs.ExampleImages(data="mnist", examples=(0,)),
        "ExampleImages.data must be a DataSpec, got 'mnist'",
    ),
    (
        lambda: specs.ExampleImages(data=RUN.data, examples=()),
        "ExampleImages.examples must be a sequence of integers ≥ 0, got ()",
    ),
    (
        lambda: specs.ExampleImages(data=RUN.data, examples=(0, -1)),
        "ExampleImages.examples must be a sequence of integers ≥ 0, got (0, -1)",
    ),
    (lambda: specs.MNIST(train_size=0), "MNIST.train_size must be an integer ≥ 1, got 0"),
    (lambda: specs.MNIST(validation_size=-1), "MNIST.validation_size must be an integer ≥ 0, got -1"),
    (lambda: specs.MNIST(split_seed=-1), "MNIST.split_seed must be an integer ≥ 0, got -1"),
    (
        lambda: specs.MNIST(normalisation="none"),
        "MNIST.normalisation must be one of 'standardise', 'pixelwise', 'unit', 'imagenet', got 'none'",
    ),
    (lambda: specs.ImageNet(image_size=7), "ImageNet.image_size must be an integer ≥ 8, got 7"),
    (lambda: specs.ImageNet(train_size=0), "ImageNet.train_size must be an integer ≥ 1, got 0"),
    (
        lambda: specs.PackedData(name="a-b", sha256="0" * 64),
        "PackedData.name must be a word of letters, digits and underscores, got 'a-b'",
    ),
    (
        lambda: specs.PackedData(name="a", sha256="0" * 63),
        f"PackedData.sha256 must be a checksum of 64 hexadecimal digits, got '{'0' * 63}'",
    ),
    (
        lambda: specs.PackedData(name="a", sha256="0" * 64, train_size=0),
        "PackedData.train_size must be an integer ≥ 1, got 0",
    ),
    (
        lambda: specs.from_dict({"name": "MLPSpec"}),
        f"class must be one of {KINDS}, got None",
    ),
    (lambda: specs.to_dict(5), f"spec must be one of {KINDS}, got 5"),
    (
        lambda: specs.ResizedCropAndFlip(scale=(0, 1)),
        "ResizedCropAndFlip.scale must be two rising numbers > 0 and ≤ 1, got (0, 1)",
    ),
    (
        lambda: specs.ResizedCropAndFlip(scale=(0.2, 1.1)),
        "ResizedCropAndFlip.scale must be two rising numbers > 0 and ≤ 1, got (0.2, 1.1)",
    ),
    (
        lambda: specs.ResizedCropAndFlip(scale=(0.2, 0.4, 0.9)),
        "ResizedCropAndFlip.scale must be two rising numbers > 0 and ≤ 1, got (0.2, 0.4, 0.9)",
    ),
    # similarity
    (
        lambda: similarity.hsic1(torch.eye(5), torch.eye(7)),
        "Gram matrices must be of one size, got (5, 5) and (7, 7)",
    ),
    (lambda: similarity.hsic1(torch.eye(3), torch.eye(3)), "examples must be at least 4, got 3"),
    (
        lambda: similarity.block_structure(RAMP, least_length=9),
        "least_length must be an integer of 4 to 8, got 9",
    ),
    (
        lambda: similarity.block_structure(RAMP + np.arange(9)),
        "the matrix must be symmetric, got differences above 1e-6; give the CKA of a network with itself",
    ),
    (lambda: similarity.block_structure(RAMP, surrogates=0), "surrogates must be an integer ≥ 1, got 0"),
    (lambda: similarity.cka(np.eye(5), np.eye(7)), "y must be of the examples of x, got 7 in place of 5"),
    (
        lambda: similarity.cka(np.eye(5), np.eye(5), estimator="mine"),
        "estimator must be one of 'unbiased', 'biased', got 'mine'",
    ),
    (
        lambda: similarity.cka(np.eye(5) * 1j, np.eye(5)),
        "activations must be real, got torch.complex128; give torch.view_as_real(x), or layers that are real",
    ),
    (lambda: similarity.block_structure(np.ones((5, 7))), "the matrix must be of shape (n, n), got (5, 7)"),
    (
        lambda: similarity.block_structure(np.ones((5, 5))),
        "the matrix must have 8 or more layers that vary, got 5",
    ),
    (
        lambda: TABLE.select(["b"]),
        "'b' must be a row of this matrix, got another layer; name both of them",
    ),
    (
        lambda: TABLE.select(["a"], ["a"]),
        "'a' must be a column of this matrix, got another layer; name both of them",
    ),
    # numbers
    (
        lambda: estimates.estimate([1.0, 2.0], confidence=95),
        "confidence must be > 0 and < 1, got 95; give such a number",
    ),
    (
        lambda: estimates.held_out_best(MISSING, cell=["width"]),
        "test_accuracy must be known of all runs of a cell, got NaN in each but for seed 0; drop them",
    ),
    (
        lambda: data.balanced_subset(torch.arange(3), -1, generator=torch.Generator()),
        "a class-balanced subset must be of 0 or more images, got -1; take more",
    ),
    (
        lambda: records._packed(np.arange(3)),
        "arrays of a record must be of uint8, int16, int32, got int64; convert them",
    ),
    # one of a few ways
    (lambda: MLP(5, activation="tanh"), "activation must be one of 'relu', 'linear', got 'tanh'"),
    (
        lambda: MLP(5, parametrisation="mup"),
        "parametrisation must be one of 'standard', 'ntk', 'sparse_mu', got 'mup'",
    ),
    (lambda: ResNet18(5, stem="tiny"), "stem must be one of 'cifar', 'imagenet', got 'tiny'"),
    *(
        (make, "initialisation must be one of 'default', 'fan_out', got 'he'")
        for make in (
            lambda: ResNet18(5, initialisation="he"),
            lambda: ResNetImageNet(5, initialisation="he"),
        )
    ),
    (
        lambda: ResNetCifar(8, details="paper"),
        "details must be one of 'released', 'torchvision', got 'paper'",
    ),
    (
        lambda: estimated_costs(net(), torch.zeros(1, 5), precision="float16"),
        "precision must be one of 'float32', 'bfloat16', got 'float16'",
    ),
    # buffers
    (
        lambda: copied_over()[0].weight,
        "the buffers of a sparse layer must be those of its own mask, got those of other masks, copied or stacked without them; draw the masks of all processes and copies from one seed, load a state dict, or call wsn.densify on each network before they are stacked",
    ),
]


@pytest.mark.parametrize(("call", "sentence"), REFUSALS, ids=[str(i) for i in range(len(REFUSALS))])
def test_a_refusal_says_what_was_given_what_must_be_and_what_to_do(call, sentence):
    with pytest.raises((ValueError, TypeError, RuntimeError)) as refused:
        call()
    assert str(refused.value) == sentence
