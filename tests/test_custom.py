"""Networks that the library does not know: no import before building, equal weights, errors by message."""

import json
import pickle
import subprocess
import sys
import types
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import wsnlib as wsn
from wsnlib import custom, masks, specs, training
from wsnlib.experiments import networks
from wsnlib.specs import Options

SMALL = "torchvision.models.mobilenet_v3_small"
SWIN = wsn.CustomSpec(
    "torchvision.models.SwinTransformer",
    options={
        "patch_size": [2, 2],
        "embed_dim": 8,
        "depths": [1, 2],
        "num_heads": [1, 2],
        "window_size": [4, 4],
        "num_classes": 7,
    },
)


def mobilenet(width: float, num_classes: int = 10) -> wsn.CustomSpec:
    return wsn.CustomSpec(SMALL, options={"width_mult": width, "num_classes": num_classes})


def wider_swin(embed_dim: int) -> wsn.CustomSpec:
    return replace(SWIN, options=dict(SWIN.options) | {"embed_dim": embed_dim})


WIDE = wsn.CustomSparsity(mobilenet(0.25), mobilenet(0.5))


class Net(nn.Module):
    """A convolution, a depthwise one and a classifier; `tied` shares two layers' weights."""

    def __init__(self, width: int, classes: int = 10, tied: bool = False, channels: int = 1) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, width, 3, stride=2)
        self.depthwise = nn.Conv2d(width, width, 3, groups=width)
        self.inner, self.again = nn.Linear(width, width), nn.Linear(width, width)
        if tied:
            self.again.weight = self.inner.weight
        self.norm = nn.BatchNorm1d(width)
        self.last = nn.Linear(width, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        hidden = self.norm(self.depthwise(self.first(images)).relu().mean((2, 3)))
        return self.last(self.again(self.inner(hidden)).relu())


class Packed(nn.Module):
    """Attention, whose three projections are one parameter outside of any Linear layer."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Linear(64, width)
        self.attention = nn.MultiheadAttention(width, 1)


@pytest.fixture(autouse=True)
def mine(monkeypatch):
    """A module of the reader's own."""
    module = types.ModuleType("my_networks")
    module.Net, module.Packed, module.number = Net, Packed, 5
    module.nothing = lambda: None
    module.pair = lambda: TwoOutputs()
    module.lazy = lambda: nn.LazyLinear(10)
    module.broken = broken
    monkeypatch.setitem(sys.modules, "my_networks", module)
    custom._shapes.cache_clear()
    custom._output_shape.cache_clear()


class TwoOutputs(nn.Module):
    def forward(self, images):
        return images, images


def broken(**options):
    raise RuntimeError("no\nluck")


def net(width: int, **options) -> wsn.CustomSpec:
    return wsn.CustomSpec("my_networks.Net", options={"width": width, **options})


def experiment(model, batch_size: int = 100, train_size: int | None = 200) -> wsn.Experiment:
    return wsn.Experiment(
        model=model,
        data=wsn.Digits(train_size=train_size),
        training=wsn.Training(epochs=2, batch_size=batch_size),
    )


# -- description --


def test_keys_never_change():
    assert wsn.spec_key(mobilenet(0.25)) == "c573d7923e763cb47920"
    assert wsn.spec_key(WIDE) == "a97aa0c0f049f109d5c0"
    assert wsn.spec_key(SWIN) == "4ba87a04efed60eb8d42"


def test_options_have_one_form():
    specs_of_one = [
        mobilenet(2),
        mobilenet(2.0),
        wsn.CustomSpec(SMALL, options={"num_classes": 10.0, "width_mult": 2}),
    ]
    assert len(set(specs_of_one)) == len({wsn.spec_key(s) for s in specs_of_one}) == 1
    assert len({wsn.CustomSpec("a.b", options={"x": x}) for x in (True, 1, "1", (1,), None, 1.5)}) == 6
    assert (
        len({wsn.spec_key(wsn.CustomSpec("a.b", options={"x": x})) for x in (True, 1, "1", (1,), None)}) == 5
    )
    assert wsn.CustomSpec("a.b", options={"x": [1, 2.0]}).options == Options({"x": (1, 2)})
    assert Options({"x": 1}) != {"x": 1}


def test_options_cannot_be_changed():
    given = {"width": 5}
    spec = wsn.CustomSpec("my_networks.Net", options=given)
    given["width"] = 7
    assert dict(spec.options) == {"width": 5}
    assert len(spec.options) == 1
    with pytest.raises(TypeError, match="does not support item assignment"):
        spec.options["width"] = 7


@pytest.mark.parametrize(
    "spec", [mobilenet(0.5), WIDE, SWIN, experiment(WIDE)], ids=lambda s: type(s).__name__
)
def test_specs_survive_json_and_pickle(spec):
    again = specs.from_dict(json.loads(specs.canonical_json(specs.to_dict(spec))))
    assert again == spec == pickle.loads(pickle.dumps(spec))
    assert wsn.spec_key(again) == wsn.spec_key(spec)
    assert hash(again) == hash(spec)


def test_nothing_is_imported_before_building(tmp_path):
    (tmp_path / "trap.py").write_text("import pathlib; pathlib.Path('sprung').touch()\ndef net(): ...\n")
    code = """
import sys, wsnlib as wsn
from wsnlib import specs
model = wsn.CustomSpec("trap.net")
sparse = wsn.CustomSparsity(model, wsn.CustomSpec("trap.net", options={"width": 2}))
runs = [wsn.Experiment(model=m, data=wsn.Digits(), training=wsn.Training(epochs=1)) for m in (model, sparse)]
store = wsn.Store("store")
network = {"num_weights": 1, "connectivity": 1.0, "weights_per_layer": {}}
for run in runs:
    store.save(wsn.Record(experiment=run, status="diverged", history={}, network=network))
assert len(list(store)) == 2 and store.load(runs[1]).experiment == runs[1] != runs[0]
assert len(wsn.table(runs, store=store)) == 2 and wsn.run_missing(runs, store=store) == 0
print("trap" in sys.modules)
try:
    wsn.build(model)
except ValueError as error:
    print("trap" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\nTrue\n"
    assert (tmp_path / "sprung").exists()


def test_the_options_are_columns_of_a_table(tmp_path):
    run = experiment(wsn.CustomSparsity(net(5), net(11, tied=False)))
    store = wsn.Store(tmp_path)
    wsn.run_missing([run], store=store, progress=False)
    row = wsn.table([run], store=store, environment=True).iloc[0]
    assert (row["model.base.options.width"], row["model.wide.options.width"]) == (5, 11)
    assert row["model.wide.factory"] == "my_networks.Net"
    assert row["environment.network"] == "my_networks"
    assert row["num_weights"] == wsn.num_weights(wsn.build(net(5)))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: wsn.CustomSpec("Net"), "CustomSpec.factory must be .* 'module.name', got 'Net'"),
        (lambda: wsn.CustomSpec("a..b"), "factory must be .*, got 'a..b'"),
        (lambda: wsn.CustomSpec("os.system('x')"), 'factory must be .*, got "os.system'),
        (lambda: wsn.CustomSpec(Net), "factory must be .*, got <class"),
        (lambda: wsn.CustomSpec("__main__.Net"), "a module in a file of its own"),
        (lambda: wsn.CustomSpec("a.b", options=[1]), r"options must be a mapping"),
        (
            lambda: wsn.CustomSpec("a.b", options={"class": 1}),
            "must be names of keyword arguments, got 'class'",
        ),
        (lambda: wsn.CustomSpec("a.b", options={1: 1}), "must be names of keyword arguments, got 1"),
        (lambda: wsn.CustomSpec("a.b", options={"x y": 1}), "must be names of keyword arguments, got 'x y'"),
        (
            lambda: wsn.CustomSpec("a.b", options={"x": nn.ReLU}),
            r"options\['x'\] must be a finite number.*got <class",
        ),
        (lambda: wsn.CustomSpec("a.b", options={"x": float("nan")}), "must be a finite number.*got nan"),
        (lambda: wsn.CustomSpec("a.b", options={"x": [[1]]}), r"flat list of these, got \[\[1\]\]"),
        (lambda: wsn.CustomSpec("a.b", options={"x": {}}), "must be a finite number.*got {}"),
        (lambda: wsn.CustomSparsity(wsn.MLPSpec(width=5), net(5)), "base must be a CustomSpec"),
        (lambda: wsn.CustomSparsity(net(5), 7), "wide must be a CustomSpec"),
        (lambda: replace(WIDE, exclude="first"), "exclude must be a sequence of names"),
        (lambda: replace(WIDE, exclude=(1,)), r"exclude must be a sequence of names"),
        (lambda: replace(WIDE, allocation="uniform"), "allocation must be a LargestFirst or"),
        (lambda: replace(WIDE, initialisation="he"), "initialisation must be one of"),
    ],
)
def test_bad_values_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# -- building --


@pytest.mark.parametrize(
    "rule", [wsn.LargestFirst(), wsn.UniformDensity(), wsn.LastLayerDensity(density=0.2)]
)
@pytest.mark.parametrize(
    ("base", "wide"),
    [(mobilenet(0.25), mobilenet(0.5)), (SWIN, wider_swin(20)), (net(5, channels=3), net(13, channels=3))],
    ids=["mobilenet", "swin", "mine"],
)
def test_the_wide_network_has_the_bases_number_of_weights(base, wide, rule):
    spec = wsn.CustomSparsity(base, wide, allocation=rule)
    model = wsn.build(spec, seed=3)
    kept = wsn.weights_per_layer(spec)
    assert wsn.num_weights(model) == sum(kept.values()) == wsn.num_weights(wsn.build(base))
    present = {n: int((m.weight != 0).sum()) for n, m in masks.weight_layers(model).items()}
    assert present == kept
    assert wsn.connectivity(model) == sum(kept.values()) / sum(wsn.weights_per_layer(wide).values())
    if isinstance(rule, wsn.LastLayerDensity):
        last = list(kept)[-1]
        assert kept[last] == round(0.2 * wsn.weights_per_layer(wide)[last])


def test_the_wide_network_may_be_the_base():
    same = wsn.build(wsn.CustomSparsity(net(5), net(5)), seed=3)
    dense = wsn.build(net(5), seed=3)
    assert list(same.state_dict()) == list(dense.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(same.parameters(), dense.parameters(), strict=True))


def test_initialisation_and_mask_derive_from_the_seed():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    spec = wsn.CustomSparsity(net(5), net(13), initialisation="unscaled")
    a, b, c = (wsn.build(spec, seed=s).inner.weight for s in (1, 1, 2))
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(a, b)
    assert not torch.equal(a != 0, c != 0)
    torch.manual_seed(specs.derive_seed(1, "initialisation"))
    by_hand = Net(13)
    generator = torch.Generator().manual_seed(specs.derive_seed(1, "mask"))
    masks.sparsify(
        by_hand, allocation=wsn.weights_per_layer(spec), initialisation="unscaled", generator=generator
    )
    assert torch.equal(a, by_hand.inner.weight)
    released = wsn.build(replace(spec, initialisation="released"), seed=1).inner.weight
    scale = (wsn.weights_per_layer(spec)["inner"] / 13**2) ** -0.5
    torch.testing.assert_close(released, scale * a)


def test_excluded_layers_stay_dense():
    spec = wsn.CustomSparsity(net(7), net(13), exclude=["depthwise", "last"])
    model = wsn.build(spec)
    density = wsn.density(model)
    assert (density["depthwise"], density["last"]) == (1, 1)
    assert wsn.num_weights(model) == wsn.num_weights(wsn.build(net(7)))
    uniform = wsn.density(wsn.build(replace(spec, allocation=wsn.UniformDensity())))
    assert (uniform["depthwise"], uniform["last"]) == (1, 1)
    assert uniform["inner"] == pytest.approx(uniform["again"], abs=1 / 100)
    assert uniform["inner"] < 0.5


def test_a_shared_weight_counts_once():
    assert wsn.weights_per_layer(net(5, tied=True)) == {"first": 45, "depthwise": 45, "inner": 25, "last": 50}
    sparse = wsn.CustomSparsity(net(5, tied=True), net(13, tied=True), exclude=["inner"])
    assert wsn.is_reachable(replace(sparse, exclude=()))
    with pytest.raises(ValueError, match="got one tensor for inner.weight and again.weight; exclude inner"):
        wsn.build(replace(sparse, exclude=()))
    with pytest.raises(ValueError, match="got 165, which leaves -4 beside 169 in inner"):
        wsn.build(sparse)


def test_lists_reach_the_factory_as_lists(monkeypatch):
    seen = {}
    monkeypatch.setattr(
        sys.modules["my_networks"], "number", lambda **options: seen.update(options) or nn.Linear(1, 1)
    )
    wsn.build(wsn.CustomSpec("my_networks.number", options={"sizes": (2, 3), "scale": 2.0, "flag": True}))
    assert seen == {"sizes": [2, 3], "scale": 2, "flag": True}
    assert isinstance(seen["sizes"], list)
    assert isinstance(seen["scale"], int)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (wsn.CustomSpec("torchvison.models.resnet18"), "'torchvison.models.resnet18' cannot be imported .*No module"),
        (wsn.CustomSpec("my_networks.nets.Net"), "the module of 'my_networks.nets.Net' cannot be imported"),
        (wsn.CustomSpec("my_networks.net"), "the module my_networks has no 'net'; did you mean 'Net'?"),
        (wsn.CustomSpec("my_networks.zzzzzz"), "the module my_networks has no 'zzzzzz'$"),
        (wsn.CustomSpec("my_networks.number"), "'my_networks.number' must be a function or class, got 5; "),
        (wsn.CustomSpec("my_networks.nothing"), "must return a torch.nn.Module, got a NoneType; "),
        (wsn.CustomSpec("my_networks.lazy"), "'my_networks.lazy' must return layers of known size, got lazy ones"),
        (wsn.CustomSpec("my_networks.broken"), r"fails with the options \{\} \(RuntimeError: no luck\)"),
        (net(5, widht=3), "'my_networks.Net' fails with the options .*unexpected keyword argument 'widht'"),
        (wsn.CustomSparsity(net(5), net(4)), "the wide network must have at least the 190 weights of the base, got 144"),
        (wsn.CustomSparsity(net(5), net(13), exclude=["lst"]), "exclude must name .* got 'lst'; did you mean 'last'?"),
        (wsn.CustomSparsity(net(5), net(13), exclude=["norm_"]), "exclude must name Linear or Conv layers, got 'norm_'; choose from"),
        (
            wsn.CustomSparsity(net(5), net(22), exclude=["first"]),
            "must leave 4 to 1386 for .*, got 190, which leaves -8 beside 198 in first; ",
        ),
        (
            wsn.CustomSparsity(net(5), net(21), exclude=["first"]),
            "must leave 4 to .*, got 190, which leaves 1 beside 189 in first",
        ),
        (
            wsn.CustomSparsity(
                net(7), net(13), exclude=["last"], allocation=wsn.LastLayerDensity(density=0.5)
            ),
            "the last layer must not be excluded where it has a density, got last",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_built_is_said_in_one_sentence(spec, message):
    with pytest.raises(ValueError, match=message) as caught:
        wsn.build(spec)
    assert "\n" not in str(caught.value)


def test_a_network_that_cannot_be_made_is_a_mistake_and_not_unreachable():
    assert wsn.is_reachable(wsn.CustomSparsity(net(5), net(13)))
    assert not wsn.is_reachable(wsn.CustomSparsity(net(5), net(21), exclude=["first"]))
    for base, wide in ((net(5, widht=5), net(13)), (net(5), net(13, widht=5))):
        with pytest.raises(ValueError, match="fails with the options"):
            wsn.is_reachable(wsn.CustomSparsity(base, wide))


@pytest.mark.filterwarnings("ignore:the weights of attention .MultiheadAttention. are neither counted")
def test_weights_outside_of_linear_and_conv_layers_may_not_grow():
    def packed(width: int) -> wsn.CustomSpec:
        return wsn.CustomSpec("my_networks.Packed", options={"width": width})

    with pytest.raises(
        ValueError,
        match="must be those of Linear or Conv layers, got attention.in_proj_weight, which grows from 9 x 3 to 15 x 5",
    ):
        wsn.build(wsn.CustomSparsity(packed(3), packed(5)))
    assert wsn.num_weights(wsn.build(wsn.CustomSparsity(packed(3), packed(3)))) == 64 * 3 + 9
    with pytest.raises(ValueError, match=r"in_proj_weight, which grows from 1 x 1 to 15 x 5"):
        wsn.build(wsn.CustomSparsity(net(5), packed(5)))


# -- running --


def test_a_sparse_network_of_ones_own_trains_and_keeps_its_mask(tmp_path):
    runs = [experiment(m) for m in (net(5), net(13), wsn.CustomSparsity(net(5), net(13)))]
    store = wsn.Store(tmp_path)
    assert wsn.run_missing(runs, store=store, progress=False) == 3
    records = [store.load(run) for run in runs]
    assert [r.network["num_weights"] for r in records] == [190, 702, 190]
    assert records[2].network["weights_per_layer"] == wsn.weights_per_layer(runs[2].model)
    data = wsn.load_data(runs[2].data)
    model = wsn.build(runs[2].model, seed=0)
    outcome = training.train(model, data, runs[2].training, seed=0)
    assert np.array_equal(outcome.predictions.numpy(), records[2].predictions)
    assert wsn.num_weights(model) == 190


def test_every_process_finds_a_network_in_the_working_folder(tmp_path):
    (tmp_path / "nets.py").write_text(
        "from torch import nn\ndef make(width):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10))\n"
    )
    (tmp_path / "sweep.py").write_text("""
import wsnlib as wsn

if __name__ == "__main__":
    base, wide = (wsn.CustomSpec("nets.make", options={"width": w}) for w in (5, 11))
    data, training = wsn.Digits(), wsn.Training(epochs=1)
    models = (base, wsn.CustomSparsity(base, wide))
    runs = [wsn.Experiment(model=m, data=data, training=training) for m in models]
    print(wsn.run_missing(runs, store=wsn.Store("store"), workers=2, progress=False))
""")
    done = subprocess.run(
        [sys.executable, "sweep.py"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.stdout == "2\n", done.stderr[-2000:]
    assert [r.network["num_weights"] for r in wsn.Store(tmp_path / "store")] == [370, 370]


def test_a_run_is_timed_as_the_dense_wide_network():
    sparse = wsn.CustomSparsity(net(5), net(13))
    assert networks.timed_as(sparse) == net(13)
    assert networks.timed_as(net(13)) == net(13)
    assert networks.timed_as(wsn.CustomSparsity(net(5), net(21), exclude=["first"])) == net(5)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (net(5, classes=9), r"must give 2 x 10 numbers \(one a class\) for a batch of 2, got 2 x 9; "),
        (net(5, channels=3), "cannot be trained on a batch of 2 x 1 x 8 x 8 .RuntimeError: "),
        (
            wsn.CustomSparsity(net(5, classes=9), net(13)),
            "'width': 5} must give 2 x 10 numbers .*, got 2 x 9",
        ),
        (
            wsn.CustomSparsity(net(5), net(13, classes=9)),
            "'width': 13} must give 2 x 10 numbers .*, got 2 x 9",
        ),
        (wsn.CustomSpec("my_networks.pair"), "must give a tensor while it trains, got a tuple; "),
    ],
)
def test_a_network_that_does_not_fit_the_data_is_named(model, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        wsn.run(experiment(model))
    with pytest.raises(ValueError, match=message):
        wsn.run_missing([experiment(model)], store=wsn.Store(tmp_path), progress=False)
    assert not list(tmp_path.glob("*.json"))


def test_a_batch_of_one_image_is_tried_before_training():
    for batch_size in (199, 1):  # the last one of an epoch, and all
        with pytest.raises(ValueError, match="on a batch of 1 x 1 x 8 x 8 .*more than 1 value per channel"):
            wsn.run(experiment(net(5), batch_size=batch_size))
    assert wsn.run(experiment(net(5), batch_size=198)).status == "finished"


def test_the_record_names_where_the_network_comes_from():
    assert custom.origin(WIDE).startswith("torchvision ")
    assert custom.origin(net(5)) == "my_networks"


def test_trying_a_network_leaves_the_global_generator_alone():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    custom.check_fit(mobilenet(0.25), images=(2, 3, 32, 32), num_classes=10)  # draws its dropout
    assert torch.equal(torch.rand(3), expected)


def test_the_generators_of_gpus_are_seeded_and_put_back(monkeypatch):
    seen, forked = [], torch.random.fork_rng
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seen.append)

    def fork_rng(devices):
        seen.append(list(devices))
        return forked(devices=[])

    monkeypatch.setattr(torch.random, "fork_rng", fork_rng)
    custom.network(wsn.CustomSpec("torch.nn.Linear", options={"in_features": 3, "out_features": 2}), seed=1)
    assert seen == [[0, 1], 1]
