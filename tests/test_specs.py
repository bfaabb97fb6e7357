"""Specs: keys that hold everything, errors that say what is allowed."""

import json
import math
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace

import numpy as np
import pytest
import torch

import wsnlib as wsn
from wsnlib import specs

RUN = wsn.Experiment(
    model=wsn.StaticSparsity(wsn.MLPSpec(width=5), width=80, allocation=wsn.LastLayerDensity(density=0.8)),
    data=wsn.MNIST(),
    training=wsn.Training(epochs=300, report="best_test"),
    seed=1,
)


RESNET = wsn.ResNet18Spec(width=8)
WIDENED = [
    wsn.StaticSparsity(RESNET, width=18),
    wsn.ChannelSparsity(RESNET, width=18),
    wsn.LinearBottleneck(RESNET, width=18),
    wsn.NonlinearBottleneck(RESNET, width=18),
]
CIFAR_NET = wsn.ResNetCifarSpec(depth=38, width_multiplier=4)
N21 = wsn.Experiment(
    model=CIFAR_NET,
    data=wsn.CIFAR10(normalisation="unit", train_size=3125),
    training=wsn.Training(
        epochs=100,
        batch_size=128,
        learning_rate=0.01,
        momentum=0.9,
        weight_decay=2e-4,
        weight_decay_on="weights",
        schedule=wsn.Cosine(),
        augmentation=wsn.CropAndFlip(padding_mode="reflect"),
        report="best_test",
    ),
)
WITH_PROBES = replace(N21, data=replace(N21.data, validation_size=500))
ORIGINS = wsn.BlockOrigins(WITH_PROBES, epochs=[0, 20])
OUTPUTS = wsn.OutputSimilarity([N21, replace(N21, seed=1)])
CUSTOM = wsn.CustomSparsity(wsn.CustomSpec("a.b", options={"x": 1}), wsn.CustomSpec("a.b"))
KEYS = [
    "07f2659ce66544ff3193",
    "99057490f8dac27f3b3b",
    "dc0b5bd78086f2a8a208",
    "6aaf9bd91e564733dc7c",
    "e9ceb32971146c3fc150",
]


def test_the_key_of_a_spec_never_changes():
    assert wsn.spec_key(RUN) == "922a7e14755321a456e5"
    assert wsn.spec_key(N21) == "c4309e1244301e7c9bc9"
    assert wsn.spec_key(ORIGINS) == "16265007b3c807b69a17"
    assert wsn.spec_key(OUTPUTS) == "b059277b6cd83a4393a5"


def test_every_way_to_widen_has_a_key_of_its_own():
    keys = [wsn.spec_key(replace(RUN, model=spec)) for spec in [RESNET, *WIDENED]]
    assert keys == KEYS
    assert len(set(keys)) == len(keys)


def test_the_key_is_the_same_in_another_process():
    code = "import sys; sys.path.insert(0, 'tests'); import test_specs as t; print(t.wsn.spec_key(t.RUN))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == wsn.spec_key(RUN)


OTHER = {
    "width": 81, "inputs": 64, "outputs": 9, "hidden_layers": 2, "activation": "linear", "bias": False,
    "parametrisation": "ntk", "density": 0.5, "initialisation": "unscaled", "base": wsn.MLPSpec(width=6),
    "allocation": wsn.UniformDensity(), "train_size": 100, "validation_size": 7, "split_seed": 3,
    "normalisation": "unit", "epochs": 7, "batch_size": 7, "learning_rate": 0.3, "momentum": 0.9,
    "weight_decay": 0.1, "schedule": wsn.Cosine(), "augmentation": wsn.CropAndFlip(), "precision": "bfloat16",
    "report": "last", "model": wsn.MLPSpec(width=7), "data": wsn.Digits(), "training": wsn.Training(epochs=2),
    "seed": 2, "padding": 3, "padding_mode": "reflect", "flip": False, "milestones": (0.1,), "factor": 0.3,
    "name": "other", "sha256": "b" * 64, "num_classes": 9, "stem": "imagenet", "input_channels": 1,
    "keeps": "factorised_base", "weight_decay_on": "weights", "evaluate_every": 3, "warmup": 0.1, "start": 0.1,
    "end": 0.1, "scale": (0.3, 0.9), "image_size": 64, "factory": "a.c",
    "depth": 14, "width_multiplier": 0.5, "residual": False, "details": "torchvision", "norm_momentum": 0.1,
    "experiment": replace(WITH_PROBES, seed=3), "experiments": (N21, N21), "num_images": 999,
    "num_removed": 9, "num_rotated": 7, "probes": True,
    "options": {"x": 2}, "wide": wsn.CustomSpec("a.c"), "exclude": ("last",),
}  # fmt: skip


@pytest.mark.parametrize(
    "spec",
    [
        RUN,
        RUN.model,
        RUN.model.base,
        RUN.model.allocation,
        RUN.training,
        RUN.data,
        ORIGINS,
        OUTPUTS,
        wsn.CropAndFlip(),
        wsn.MultiStep(milestones=(0.3, 0.6)),
        wsn.OneCycle(),
        wsn.ResizedCropAndFlip(),
        wsn.ImageNet(),
        wsn.PackedData(name="mine", sha256="a" * 64),
        RESNET,
        CIFAR_NET,
        *WIDENED,
        CUSTOM,
        CUSTOM.base,
    ],
    ids=lambda spec: type(spec).__name__,
)
def test_every_field_is_part_of_the_key_and_survives_json(spec):
    assert specs.from_dict(json.loads(specs.canonical_json(specs.to_dict(spec)))) == spec
    other = OTHER | ({"initialisation": "fan_out"} if isinstance(spec, wsn.ResNet18Spec) else {})
    other |= {"base": wsn.CustomSpec("a.c")} if isinstance(spec, wsn.CustomSparsity) else {}
    other |= {"epochs": (0, 21)} if isinstance(spec, wsn.BlockOrigins) else {}
    keys = {wsn.spec_key(replace(spec, **{f.name: other[f.name]})) for f in fields(spec)} | {
        wsn.spec_key(spec)
    }
    assert len(keys) == len(fields(spec)) + 1


def test_the_class_is_part_of_the_key():
    assert wsn.spec_key(wsn.MNIST()) != wsn.spec_key(wsn.FashionMNIST())


def test_equal_numbers_have_equal_keys():
    nothing = [wsn.Training(epochs=1, weight_decay=decay) for decay in (0.0, -0.0, 0)]
    assert len({specs.spec_key(replace(RUN, training=each)) for each in nothing}) == 1
    assert wsn.spec_key(wsn.Training(epochs=1, learning_rate=1)) == wsn.spec_key(
        wsn.Training(epochs=1, learning_rate=1.0)
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: wsn.MLPSpec(width=0), "MLPSpec.width must be an integer ≥ 1, got 0"),
        (lambda: wsn.MLPSpec(width=2.5), "MLPSpec.width must be an integer ≥ 1.*got 2.5"),
        (lambda: wsn.MLPSpec(width=True), "MLPSpec.width must be an integer.*got True"),
        (
            lambda: wsn.MLPSpec(width=5, activation="tanh"),
            "activation must be one of 'relu', 'linear'.*got 'tanh'",
        ),
        (lambda: wsn.MLPSpec(width=5, bias=1), "MLPSpec.bias must be True or False, got 1"),
        (lambda: wsn.StaticSparsity(wsn.MLPSpec(width=5), width=4), "at least the base width 5, got"),
        (
            lambda: wsn.StaticSparsity(5, width=4),
            "StaticSparsity.base must be a MLPSpec or ResNet18Spec or ResNetCifarSpec or ResNetI.*got 5",
        ),
        (
            lambda: wsn.StaticSparsity(RUN.model, width=90),
            "StaticSparsity.base must be a MLPSpec or.*got StaticSparsity.*",
        ),
        (
            lambda: wsn.ChannelSparsity(RESNET, width=7),
            "ChannelSparsity.width must be .* the base width 8.*got 7",
        ),
        (
            lambda: wsn.LinearBottleneck(RESNET, width=7),
            "LinearBottleneck.width must be .* the base width 8.*got 7",
        ),
        (
            lambda: wsn.NonlinearBottleneck(RESNET, width=7),
            "NonlinearBottleneck.width must be .* the base width 8.*got 7",
        ),
        (
            lambda: wsn.LinearBottleneck(RESNET, width=9.0),
            "width must be an integer ≥ 1, got 9.0",
        ),
        (
            lambda: wsn.NonlinearBottleneck("base", width=9),
            "base must be a MLPSpec or ResNet18Spec.*got 'base'",
        ),
        (
            lambda: wsn.LinearBottleneck(RESNET, width=9, keeps="all"),
            "keeps must be one of 'base', 'factorised_base'.*got 'all'",
        ),
        (
            lambda: wsn.DynamicSparseTraining(epochs=1, method="set", fraction=0.0),
            "fraction must be a number > 0 and ≤ 1, got 0.0",
        ),
        (
            lambda: wsn.DynamicSparseTraining(epochs=1, method="set", until=1.5),
            "until must be a number > 0 and ≤ 1, got 1.5",
        ),
        (lambda: wsn.ResNet18Spec(width=0), "ResNet18Spec.width must be an integer ≥ 1.*got 0"),
        (lambda: wsn.ResNet18Spec(width=8, num_classes=0), "num_classes must be an integer ≥ 1.*got 0"),
        (lambda: wsn.ResNet18Spec(width=8, input_channels=1.5), "input_channels must be an integer.*got 1.5"),
        (
            lambda: wsn.ResNet18Spec(width=8, stem="cifar10"),
            "stem must be one of 'cifar', 'imagenet'.*got 'cifar10'",
        ),
        (
            lambda: wsn.ResNet18Spec(width=8, initialisation="he"),
            "initialisation must be one of 'default', 'fan_out'.*got 'he'",
        ),
        (
            lambda: wsn.StaticSparsity(CIFAR_NET, width=63),
            "width must be an integer of at least the base width 64.*got 63",
        ),
        (lambda: wsn.BlockOrigins("run"), "experiment must be a Experiment, got 'run'"),
        (
            lambda: wsn.BlockOrigins(RUN),
            "experiment must train a ResNetCifarSpec, got a StaticSparsity",
        ),
        (
            lambda: wsn.BlockOrigins(N21, probes=True),
            "validation_size must be ≥ 1 for BlockOrigins.probes, got 0",
        ),
        (lambda: wsn.BlockOrigins(N21, epochs=[5, 3]), r"epochs must be rising integers from 0 .*got \(5, 3"),
        (
            lambda: wsn.BlockOrigins(N21, epochs=[0, N21.training.epochs]),
            "epochs must be .* before the last epoch",
        ),
        (lambda: wsn.BlockOrigins(N21, epochs=[1.5]), "epochs must be rising integers"),
        (
            lambda: wsn.BlockOrigins(N21, num_images=20),
            "num_removed must be at most 8 of num_images 20, got 10",
        ),
        (lambda: wsn.BlockOrigins(N21, num_rotated=3), "num_rotated must be an integer ≥ 4.*got 3"),
        (
            lambda: wsn.OutputSimilarity([N21, replace(N21, data=wsn.CIFAR100())]),
            "OutputSimilarity.experiments must be on one data set, got CIFAR10 and CIFAR100",
        ),
        (
            lambda: wsn.OutputSimilarity([N21]),
            "experiments must be a sequence of at least two Experiments.*got .*",
        ),
        (
            lambda: wsn.OutputSimilarity([N21, N21.data]),
            "experiments must be a sequence of at least two.*got .*",
        ),
        (
            lambda: wsn.OutputSimilarity(
                [replace(N21, data=wsn.PackedData(name=n, sha256=n * 64)) for n in "ab"]
            ),
            r"experiments must be on one data set, got a \(aaaaaaaa…\) and b \(bbbbbbbb…\)",
        ),
        (
            lambda: wsn.ResNetImageNetSpec(third_stage_blocks=0),
            "third_stage_blocks must be an integer ≥ 1.*got 0",
        ),
        (lambda: wsn.ResNetImageNetSpec(width=64.0), "width must be an integer ≥ 1.*got 64.0"),
        (
            lambda: wsn.ResNetImageNetSpec(third_stage_width_multiplier=0),
            "third_stage_width_multiplier must be a number ≥ 0.0625.*got 0",
        ),
        (
            lambda: wsn.ResNetImageNetSpec(initialisation="he"),
            "initialisation must be one of 'default'.*got 'he'",
        ),
        (lambda: wsn.ResNetCifarSpec(depth=39), "depth must be 6n \\+ 2 for n ≥ 1, such as.*got 39"),
        (lambda: wsn.ResNetCifarSpec(depth=2), "depth must be 6n.*got 2"),
        (lambda: wsn.ResNetCifarSpec(depth=38.0), "depth must be an integer ≥ 1.*got 38.0"),
        (
            lambda: wsn.ResNetCifarSpec(depth=14, width_multiplier=0.06),
            "width_multiplier must be a number ≥ 0.0625.*got 0.06",
        ),
        (lambda: wsn.ResNetCifarSpec(depth=14, residual=1), "residual must be True or False.*got 1"),
        (
            lambda: wsn.ResNetCifarSpec(depth=14, details="keras"),
            "details must be one of 'released'.*got 'keras'",
        ),
        (lambda: wsn.ResNetCifarSpec(depth=14, norm_momentum=0), "norm_momentum must be a number > 0.*got 0"),
        (
            lambda: wsn.LinearBottleneck(CIFAR_NET, width=80),
            "base must be a MLPSpec or ResNet18Spec, got ResNetCifarSpec.*",
        ),
        (
            lambda: replace(RUN, model="mlp"),
            "Experiment.model must be a MLPSpec or ResNet18Spec or ResNetCifarSpec or ResNetImageNetSpec or.*got 'mlp'",
        ),
        (
            lambda: wsn.specs.widths(RESNET, widening_factors=[2, 0.5]),
            "a widening factor must be a number ≥ 1.*got 0.5",
        ),
        (
            lambda: wsn.specs.widths(RESNET, widening_factors=[math.nan]),
            "a widening factor must be a number ≥ 1.*got nan",
        ),
        (
            lambda: wsn.specs.widths(RESNET, widening_factors=[math.inf]),
            "a widening factor must be a number ≥ 1.*got inf",
        ),
        (lambda: wsn.LastLayerDensity(density=0), "density must be a number > 0 and ≤ 1.*got 0"),
        (lambda: wsn.LastLayerDensity(density=1.1), "density must be a number > 0 and ≤ 1.*got 1.1"),
        (
            lambda: wsn.Training(epochs=1, learning_rate="1e-3"),
            "learning_rate must be a number > 0.*got '1e-3'",
        ),
        (
            lambda: wsn.Training(epochs=1, learning_rate=math.nan),
            "learning_rate must be a number > 0.*got nan",
        ),
        (
            lambda: wsn.Training(epochs=1, learning_rate=math.inf),
            "learning_rate must be a number > 0.*got inf",
        ),
        (lambda: wsn.Training(epochs=1, weight_decay=-0.1), "weight_decay must be a number ≥ 0.*got -0.1"),
        (lambda: wsn.Training(epochs=1, momentum=1), "momentum must be a number ≥ 0 and < 1, got 1"),
        (lambda: wsn.MNIST(train_size=0), "MNIST.train_size must be an integer ≥ 1.*got 0"),
        (lambda: wsn.MNIST(validation_size=-1), "MNIST.validation_size must be an integer ≥ 0.*got -1"),
        (
            lambda: wsn.MultiStep(milestones=(0.5, 0.2)),
            "milestones must be a rising sequence of fractions.*got .*",
        ),
        (
            lambda: wsn.MultiStep(milestones=(0.5, 0.5)),
            "milestones must be a rising sequence of fractions.*got .*",
        ),
        (
            lambda: wsn.MultiStep(milestones=(0, 0.5)),
            "milestones must be a rising sequence of fractions.*got .*",
        ),
        (
            lambda: wsn.MultiStep(milestones=(0.5, 1)),
            "milestones must be a rising sequence of fractions.*got .*",
        ),
        (lambda: wsn.PackedData(name="../x", sha256="a" * 64), "name must be a word of letters.*got '../x'"),
        (lambda: wsn.PackedData(name="x", sha256="abc"), "sha256 must be a checksum of 64.*got 'abc'"),
        (lambda: wsn.PackedData(name="x", sha256="z" * 64), "sha256 must be a checksum of 64.*got 'zz"),
        (lambda: wsn.MultiStep(milestones=0.5), "milestones must be a rising sequence.*got 0.5"),
        (lambda: wsn.ResizedCropAndFlip(scale=0.2), "scale must be two rising numbers.*got 0.2"),
        (
            lambda: wsn.ExampleImages(data=wsn.Digits(), examples=3),
            "must be a sequence of integers ≥ 0, got 3",
        ),
        (
            lambda: wsn.KernelDistances(inputs=wsn.GaussianInputs(dimension=3), num_pairs=2, densities=0.5),
            "densities must be a sequence of numbers > 0 and ≤ 1, got 0.5",
        ),
        (lambda: replace(RUN, seed=-1), "Experiment.seed must be an integer ≥ 0.*got -1"),
        (
            lambda: replace(RUN, training=wsn.Training(epochs=1, report="best_validation")),
            "data.validation_size must be ≥ 1 with Training.report 'best_validation', got 0",
        ),
    ],
)
def test_bad_values_are_named_with_what_is_allowed(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_unknown_classes_and_fields_are_refused():
    with pytest.raises(ValueError, match="class must be one of .*, got 'os.system'"):
        specs.from_dict({"class": "os.system"})
    with pytest.raises(TypeError, match="unexpected keyword argument 'widht'"):
        specs.from_dict({"class": "MLPSpec", "widht": 5})


def test_purposes_have_their_own_seeds():
    seeds = {specs.derive_seed(s, p) for s in range(50) for p in ("initialisation", "mask", "order", "split")}
    assert len(seeds) == 200
    assert all(0 <= s < 2**63 for s in seeds)


def test_derived_seeds_never_change():
    assert specs.derive_seed(0, "mask") == 377496160807532760
    assert specs.derive_seed(7, "order") == 5359426343381712087


def test_the_base_width_is_allowed():
    assert wsn.StaticSparsity(wsn.MLPSpec(width=5), width=5).width == 5


def test_the_widths_of_the_paper():
    assert wsn.specs.widths(wsn.ResNet18Spec(width=64), widening_factors=[2 ** (k / 2) for k in range(5)]) == [
        64, 90, 128, 181, 256,
    ]  # fmt: skip
    assert wsn.specs.widths(wsn.MLPSpec(width=100), widening_factors=[1, 1.1, 2.3]) == [100, 110, 230]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_json_has_no_numbers_that_json_does_not_know(value):
    with pytest.raises(ValueError, match="not JSON compliant"):
        specs.canonical_json({"a": value})


EVERY_KIND = [
    RUN,
    wsn.Experiment(
        model=wsn.ResNetImageNetSpec(width=5, third_stage_width_multiplier=1.5),
        data=wsn.ImageNet(image_size=224, train_size=30, split_seed=7),
        training=wsn.Training(
            epochs=7,
            schedule=wsn.OneCycle(warmup=0.5),
            augmentation=specs.ResizedCropAndFlip(scale=(0.5, 1)),
        ),
    ),
    wsn.Experiment(
        model=wsn.ResNetCifarSpec(depth=14, width_multiplier=0.5, residual=False),
        data=wsn.CIFAR10(validation_size=10),
        training=wsn.Training(
            epochs=7, schedule=wsn.MultiStep(milestones=(0.25, 0.5)), augmentation=wsn.CropAndFlip(flip=False)
        ),
    ),
    wsn.CustomSpec("a.b", options={"width": 2.0, "depths": [2, 3], "rate": 0.5, "bias": True, "size": None}),
    specs.ExampleImages(data=wsn.MNIST(), examples=(3, 5)),
    specs.KernelDistances(inputs=specs.GaussianInputs(dimension=5), densities=(1, 0.5), num_pairs=3),
    specs.KernelSimulation(
        inputs=wsn.Digits(),
        widths=(3, 5),
        densities=(1, 0.5),
        scaled_by=(1, 0.5),
        num_pairs=3,
        num_networks=2,
    ),
    specs.BlockOrigins(
        replace(RUN, model=wsn.ResNetCifarSpec(depth=14)), epochs=(0, 1), num_images=30, num_removed=3
    ),
    specs.OutputSimilarity([RUN, replace(RUN, seed=2)], num_images=7),
    *WIDENED,
]


def of_numpy(value, kind):
    """A field's value with every number in it one of numpy; a spec with those in all of its fields."""
    if is_dataclass(value):
        return replace(value, **{f.name: of_numpy(getattr(value, f.name), kind) for f in fields(value)})
    if isinstance(value, Mapping):
        return {name: of_numpy(v, kind) for name, v in value.items()}
    if isinstance(value, tuple):
        numbers = kind == "0-d arrays" and all(isinstance(v, int | float) for v in value)
        return np.array(value) if numbers else tuple(of_numpy(v, kind) for v in value)
    if not isinstance(value, bool | int | float):
        return value
    return np.array(value)[()] if kind == "scalars" else np.array(value)


@pytest.mark.parametrize("kind", ["scalars", "0-d arrays"])
@pytest.mark.parametrize("spec", EVERY_KIND, ids=lambda spec: type(spec).__name__)
def test_numbers_of_numpy_are_numbers_and_give_the_same_key(spec, kind):
    found = of_numpy(spec, kind)
    assert repr(found) == repr(spec)
    assert (found, wsn.spec_key(found), hash(found)) == (spec, wsn.spec_key(spec), hash(spec))
    assert specs.from_dict(specs.to_dict(found)) == spec


@pytest.mark.parametrize(
    "value",
    [np.float64(5), np.array([5]), np.array([5, 6]), np.bool_(True), np.array(5.0), np.int64(0)],
    ids=repr,
)
def test_what_is_no_integer_of_numpy_is_none_here(value):
    with pytest.raises(ValueError, match=r"MLPSpec.width must be an integer ≥ 1, got .*"):
        wsn.MLPSpec(width=value)


def test_integers_of_numpy_count_weights():
    sizes = {"a": 30, "b": 70}
    assert wsn.allocate(sizes, num_weights=np.int64(40)) == wsn.allocate(sizes, num_weights=40)
    net = torch.nn.Linear(7, 5)
    wsn.sparsify(net, num_weights=np.int32(11), generator=torch.Generator())
    assert wsn.num_weights(net) == 11
    for wrong in (np.float64(40), np.bool_(True), True, 40.0):
        with pytest.raises(TypeError, match="must be an integer"):
            wsn.allocate(sizes, num_weights=wrong)


def test_what_is_just_allowed_is_allowed():
    """The border of every range that includes it, and the next value within one that does not."""
    specs.MLPSpec(width=1, inputs=1, outputs=1, hidden_layers=1)
    specs.ResNet18Spec(width=1, num_classes=1, input_channels=1)
    specs.ResNetCifarSpec(depth=8, width_multiplier=1 / 16, num_classes=1, input_channels=1, norm_momentum=1)
    specs.ResNetImageNetSpec(
        width=1, third_stage_blocks=1, num_classes=1, third_stage_width_multiplier=1 / 16
    )
    specs.MultiStep(milestones=(1e-9, 1 - 1e-9), factor=1)
    specs.OneCycle(warmup=1e-9, start=0, end=0)
    specs.OneCycle(warmup=1 - 1e-9, start=1, end=1)
    specs.CropAndFlip(padding=0)
    specs.ResizedCropAndFlip(scale=(1, 1))
    specs.LastLayerDensity(density=1)
    training = specs.Training(
        epochs=1, batch_size=1, evaluate_every=1, momentum=0, weight_decay=0, learning_rate=1e-9
    )
    run = specs.Experiment(
        model=specs.ResNetCifarSpec(depth=8), data=specs.CIFAR10(validation_size=1), training=training, seed=0
    )
    specs.OutputSimilarity([run, run], num_images=4, seed=0)
    specs.BlockOrigins(run, num_images=8, num_removed=2, num_rotated=4, probes=True, seed=0)
    longer = specs.Experiment(
        model=run.model, data=run.data, training=specs.Training(epochs=3, report="best_validation")
    )
    assert specs.BlockOrigins(longer, epochs=[0, 2]).epochs == (0, 2)
    specs.MNIST(train_size=1, validation_size=0, split_seed=0)
    specs.ImageNet(image_size=8)
    specs.ExampleImages(data=specs.MNIST(), examples=(0,))
    of_one = {"inputs": specs.GaussianInputs(dimension=1), "densities": (1,), "num_pairs": 1, "seed": 0}
    specs.KernelDistances(**of_one)
    specs.KernelSimulation(**of_one, widths=(1,), num_networks=1, scaled_by=(1e-9,), exact_count=True)
    assert specs.BlockOrigins(run, num_images=None, num_removed=9).num_images is None
    assert specs.OutputSimilarity([run, run], num_images=None).num_images is None


def test_networks_and_epochs_may_be_listed_in_any_sequence():
    spec = wsn.OutputSimilarity([N21, replace(N21, seed=1)])
    assert spec.experiments == (N21, replace(N21, seed=1))
    assert hash(spec) == hash(wsn.OutputSimilarity((N21, replace(N21, seed=1))))
    assert ORIGINS.epochs == (0, 20)
    assert hash(ORIGINS) == hash(wsn.BlockOrigins(WITH_PROBES, epochs=(0, 20)))


def test_a_network_of_another_width_is_the_same_but_for_that():
    for spec in (wsn.MLPSpec(width=5, inputs=7), wsn.ResNet18Spec(width=8, num_classes=3)):
        assert specs.at_width(spec, 9) == replace(spec, width=9)


def test_layers_that_stay_dense_are_known_in_any_order_and_once():
    spec = wsn.CustomSpec("a.b")
    one = wsn.CustomSparsity(spec, spec, exclude=("stem", "head", "stem"))
    assert one.exclude == ("head", "stem")
    assert one == wsn.CustomSparsity(spec, spec, exclude=["head", "stem"])
