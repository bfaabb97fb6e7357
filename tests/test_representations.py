"""Reading layers through hooks, CKA in one stream, components, sparsity, deletion."""

import copy
import re
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import wsnlib as wsn
from wsnlib import similarity
from wsnlib.models import MLP, ResNetCifar
from wsnlib.representations import read
from wsnlib.representations.reading import quick_layout


def normal(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def resnet(seed: int = 0, *, trained: bool = True, **kwargs) -> nn.Module:
    """A small ResNet whose batch norms are not the identity."""
    torch.manual_seed(seed)
    net = ResNetCifar(8, width_multiplier=0.25, norm_momentum=0.5, **kwargs)
    if trained:
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        for step in range(3):
            loss = F.cross_entropy(net(normal(step, 32, 3, 8, 8)), torch.arange(32) % 10)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return net


def outputs(model: nn.Module, images: torch.Tensor) -> dict[str, torch.Tensor]:
    """Copies of what every leaf gives, by plain hooks."""
    found: dict[str, torch.Tensor] = {}
    handles = [
        module.register_forward_hook(lambda m, i, o, name=name: found.__setitem__(name, o.detach().clone()))
        for name, module in model.named_modules()
        if not list(module.children())
    ]
    model.eval()
    with torch.no_grad():
        model(images)
    for handle in handles:
        handle.remove()
    return found


def all_pairs(representations: dict[str, torch.Tensor]) -> np.ndarray:
    """CKA of every two layers on all examples at once, one pair after the other, in float64."""
    return np.array([[wsn.cka(x, y) for y in representations.values()] for x in representations.values()])


class InPlace(nn.Module):
    """Changes what its layers gave, in every way there is."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(5, 7)
        self.relu = nn.ReLU(inplace=True)
        self.second = nn.Linear(7, 7)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.relu(self.first(x))
        z = self.second(y)
        z += y
        y *= 0
        return z


# -- reading --


def test_layers_are_in_order_of_computation():
    net = resnet()
    assert wsn.layer_names(net, normal(0, 5, 3, 8, 8)) == [
        name for name, module in net.named_modules() if not list(module.children())
    ]
    assert wsn.layer_names(net, normal(0, 5, 3, 8, 8), layers=["stage2", "norm", "conv"]) == [
        "conv",
        "norm",
        "stage2",
    ]


def test_a_module_called_again_is_another_layer():
    net = torchvision.models.resnet18(weights=None)
    images = normal(0, 2, 3, 32, 32)
    names = wsn.layer_names(net, images)
    block = [name for name in names if name.startswith("layer1.0")]
    assert block == [f"layer1.0.{name}" for name in ("conv1", "bn1", "relu", "conv2", "bn2", "relu:2")]
    found = wsn.representations.read_representations(net, images, layers=["layer1.0.relu:2", "layer1.0"])
    assert torch.equal(found["layer1.0.relu:2"], found["layer1.0"])
    only = wsn.representations.read_representations(net, images, layers=["layer1.0.relu"])
    assert list(only) == ["layer1.0.relu"] and not torch.equal(only["layer1.0.relu"], found["layer1.0"])


def test_operations_in_place_do_not_reach_what_was_read():
    torch.manual_seed(0)
    net = InPlace()
    x = normal(0, 9, 5)
    found = wsn.representations.read_representations(net, x, batch_size=4)
    first = x @ net.first.weight.T + net.first.bias
    assert torch.allclose(found["first"], first, atol=1e-6)
    assert torch.allclose(found["relu"], first.relu(), atol=1e-6)
    assert torch.allclose(found["second"], net.second(first.relu()), atol=1e-6)
    matrix = wsn.cka_matrix(net, x, batch_size=9, passes=1)
    for i, a in enumerate(matrix.rows):
        for j, b in enumerate(matrix.columns):
            assert matrix.values[i, j] == pytest.approx(wsn.cka(found[a], found[b]), abs=1e-5)


def test_static_masks_are_not_layers():
    net = MLP(7, inputs=5)
    names = wsn.layer_names(net, normal(0, 4, 5))
    wsn.sparsify(net, num_weights=40, generator=torch.Generator())
    assert wsn.layer_names(net, normal(0, 4, 5)) == names == ["hidden1", "activation1", "output"]


def test_modules_that_give_tuples_or_nothing_of_the_images():
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.recurrent = nn.LSTM(3, 5, batch_first=True)
            self.table = nn.Embedding(4, 5)
            self.listed = Listed()
            self.unused = nn.Linear(2, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.listed(x)
            return self.recurrent(x)[0] + self.table(torch.arange(2))

    class Listed(nn.Module):
        def forward(self, x: torch.Tensor) -> dict[str, int]:
            return {"rows": len(x)}

    net, x = Odd(), normal(0, 6, 2, 3)
    assert wsn.layer_names(net, x) == ["recurrent"]
    assert wsn.representations.read_representations(net, x)["recurrent"].shape == (6, 2, 5)
    with pytest.raises(
        ValueError, match="listed must give a tensor, or something that holds one, got a dict"
    ):
        wsn.layer_names(net, x, layers=["listed"])
    with pytest.raises(ValueError, match="table must give one row for each image, got 2 for 4"):
        wsn.layer_names(net, x, layers=["table"])
    with pytest.raises(ValueError, match="unused never ran"):
        wsn.layer_names(net, x, layers=["recurrent", "unused"])


def test_the_model_is_left_as_it_was_even_after_an_error():
    net = resnet()
    net.train()
    net.norm.eval()
    before = copy.deepcopy(net.state_dict())
    modes = [module.training for module in net.modules()]
    images = normal(0, 16, 3, 8, 8)
    wsn.cka_matrix(net, images, batch_size=8, passes=1)
    with pytest.raises(ZeroDivisionError):
        wsn.representations.read_representations(net, images, reduce=lambda x: 1 / 0)
    assert [module.training for module in net.modules()] == modes
    assert all(not module._forward_hooks and not module._forward_pre_hooks for module in net.modules())
    after = net.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)  # running statistics included


class Experts(nn.Module):
    """One sees images whose first number is small, the other the rest, if there are any."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(3, 4), nn.Linear(3, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        small = x[:, 0] < 100
        y = x.new_zeros(len(x), 4)
        if small.any():
            y[small] = self.one(x[small])
        if not small.all():
            y[~small] = self.two(x[~small])
        return y


@pytest.mark.parametrize(
    "read_all", [wsn.representations.read_representations, wsn.representations.decompose_layers]
)
def test_a_layer_that_sees_some_images_alone_is_refused(read_all):
    few, none = normal(0, 20, 3), normal(0, 20, 3)
    few[10:] += 200
    with pytest.raises(ValueError, match="one must give one row for each image, got 10 for 20; leave it out"):
        read_all(Experts(), few)
    if read_all is wsn.representations.read_representations:
        none[4:] += 200
        with pytest.raises(ValueError, match="one did not run on this batch; it must run on every one"):
            read_all(Experts(), none, batch_size=4)
    with pytest.raises(ValueError, match="representation of 0 must be finite, got NaN or infinity"):
        wsn.representations.decompose_layers(nn.Sequential(nn.Linear(3, 4)), few * torch.nan)


def test_reading_is_without_gradients_and_in_full_precision():
    net = InPlace()
    seen = []
    with torch.autocast("cpu", torch.bfloat16), read(net, None, lambda name, x: seen.append(x)):
        net(normal(0, 4, 5))
    assert all(x.dtype == torch.float32 and not x.requires_grad for x in seen)


@pytest.mark.parametrize(("of", "name"), [("cka_matrix", "values"), ("decompose_layers", "cka")])
def test_autocast_changes_nothing_of_cka(of, name):
    net, images = resnet(), normal(9, 32, 3, 8, 8)
    plain = getattr(wsn.representations, of)(net, images)
    with torch.autocast("cpu", torch.bfloat16):
        found = getattr(wsn.representations, of)(net, images)
    np.testing.assert_allclose(getattr(found, name), getattr(plain, name), atol=1e-6)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (
            "stage1.block1.conv3",
            "'stage1.block1.conv3' is not a layer of the ResNetCifar; did you mean stage1.block1.conv",
        ),
        ("qqqq", "'qqqq' is not a layer of the ResNetCifar; it has input, conv"),
        ("conv:x", "'conv:x' is not a layer"),
        ("conv:2", "conv:2 never ran"),
    ],
)
def test_an_unknown_layer_has_near_names(layer, message):
    with pytest.raises(ValueError, match=message):
        wsn.cka_matrix(resnet(trained=False), normal(0, 8, 3, 8, 8), layers=["conv", layer])


# -- CKA in one stream --


@pytest.mark.parametrize("trained", [True, False])
def test_one_batch_of_all_images_is_the_whole_data_set(trained):
    net, images = resnet(trained=trained), normal(1, 40, 3, 8, 8)
    found = wsn.cka_matrix(net, images, batch_size=40, passes=1)
    exact = outputs(net, images)
    assert found.rows == tuple(exact)
    assert np.abs(found.values - all_pairs(exact)).max() < 1e-6


def test_the_stream_is_the_sum_over_its_batches():
    net, images = resnet(), normal(1, 22, 3, 8, 8)
    sums = wsn.representations.cka_sums(net, images, batch_size=8, passes=2, seed=3)
    order = [[], []]
    seen: list[torch.Tensor] = []
    wsn.representations.cka_sums(
        net, images, batch_size=8, passes=2, seed=3, prepare=lambda x: seen.append(x) or x
    )
    expected = similarity.MinibatchCKA(sums.layers, examples=sums.examples)
    for index, batch in enumerate(seen[2:]):  # the first name the layers and try a layout
        expected.update(outputs(net, batch), pass_index=index // 3)
        order[index // 3] += [int((images == image).flatten(1).all(1).nonzero()) for image in batch]
    assert [len(batch) for batch in seen[2:]] == [8, 8, 6] * 2
    assert sorted(order[0]) == sorted(order[1]) == list(range(22)) and order[0] != order[1] != list(range(22))
    for weighting in ("released", "paper"):
        a, b = sums.matrix(weighting=weighting), expected.matrix(weighting=weighting)
        assert np.abs(a.values - b.values).max() < 1e-6
        assert np.abs(a.standard_errors - b.standard_errors).max() < 1e-6
    by_name = wsn.cka_matrix(net, images, batch_size=8, passes=2, seed=3, weighting="paper")
    assert np.array_equal(by_name.values, sums.matrix(weighting="paper").values)
    other = wsn.cka_matrix(net, images, batch_size=8, passes=2, seed=4, weighting="paper")
    assert not np.array_equal(by_name.values, other.values)


def test_passes_may_be_run_apart_and_merged():
    net, images = resnet(), normal(1, 24, 3, 8, 8)
    whole = wsn.representations.cka_sums(net, images, batch_size=8, passes=3)
    parts = [wsn.representations.cka_sums(net, images, batch_size=8, passes=[number]) for number in (2, 0, 1)]
    for part in parts[1:]:
        parts[0].merge(part)
    assert np.allclose(parts[0].matrix().values, whole.matrix().values, rtol=1e-13)
    assert np.allclose(parts[0].matrix().standard_errors, whole.matrix().standard_errors, rtol=1e-6)
    with pytest.raises(ValueError, match="the sums must be of the examples"):
        whole.merge(wsn.representations.cka_sums(net, images + 1, batch_size=8, passes=[4]))


def test_many_models_in_one_pass_are_the_models_apart():
    nets = {"one": resnet(0), "other": resnet(1, residual=False), "mlp": MLP(7, inputs=192)}
    images = normal(1, 33, 3, 8, 8)
    found = wsn.cka_matrices(nets, images, batch_size=11, passes=2)
    assert len(found) == 9
    for name, net in nets.items():
        alone = wsn.cka_matrix(net, images, batch_size=11, passes=2)
        assert found[name, name].rows == alone.rows
        assert np.abs(found[name, name].values - alone.values).max() < 1e-6
    assert np.array_equal(found["one", "other"].values, found["other", "one"].values.T)
    pair = found["one", "mlp"]
    a, b = outputs(nets["one"], images), outputs(nets["mlp"], images)
    whole = wsn.cka_matrices(nets, images, batch_size=33, passes=1)["one", "mlp"]
    assert pair.rows == tuple(a) and pair.columns == tuple(b)
    for i in (0, 5):
        assert whole.values[i, 1] == pytest.approx(wsn.cka(a[pair.rows[i]], b[pair.columns[1]]), abs=1e-6)


def test_each_model_has_its_layers_and_its_preparation():
    nets = {"one": MLP(7, inputs=5), "other": MLP(11, inputs=5)}
    images = normal(1, 12, 5)
    layers = {"one": ["hidden1"], "other": ["output", "hidden1"]}
    found = wsn.cka_matrices(
        nets, images, layers=layers, prepare={"other": lambda x: 100 * x}, batch_size=12, passes=1
    )
    assert found["one", "other"].values.shape == (1, 2)
    hidden = outputs(nets["one"], images)["hidden1"], outputs(nets["other"], 100 * images)["hidden1"]
    assert found["one", "other"].values[0, 0] == pytest.approx(wsn.cka(*hidden), abs=1e-6)


def test_without_the_first_component():
    net, images = MLP(13, inputs=5, hidden_layers=2), normal(1, 30, 5)
    found = wsn.cka_matrix(net, images, batch_size=30, passes=1, without_component=True)
    reduced = {}
    for name, x in outputs(net, images).items():
        left, values, right = torch.linalg.svd((x - x.mean(0)).double(), full_matrices=False)
        reduced[name] = left[:, 1:] * values[1:] @ right[1:]
    assert np.abs(found.values - all_pairs(reduced)).max() < 1e-5


def test_a_dead_layer_is_named():
    net = MLP(7, inputs=5)
    nn.init.constant_(net.hidden1.bias, -1e3)
    with pytest.warns(RuntimeWarning, match="^activation1, output: constant"):
        values = wsn.cka_matrix(net, normal(1, 12, 5), batch_size=6, passes=2).values
    assert np.isnan(values[1:]).all() and values[0, 0] == 1


class Views(nn.Module):
    """A convolution and a view of what it gives, which must be contiguous."""

    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(3, 5, 3)
        self.flat = nn.Identity()

    def forward(self, x):
        return self.flat(self.convolution(x).view(len(x), -1))


class Layouts(nn.Module):
    """Notes how its images lie in memory."""

    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(3, 5, 3)
        self.found = []

    def forward(self, x):
        self.found.append(x.is_contiguous(memory_format=torch.channels_last))
        return self.convolution(x)


def test_images_lie_in_memory_as_is_quicker_and_as_the_model_can_take_them():
    torch.manual_seed(0)
    images, net, views = normal(0, 23, 3, 7, 5), Layouts(), Views()
    assert quick_layout(net, images) is torch.channels_last
    assert quick_layout(views, images) is quick_layout(net, images[:, 0]) is torch.preserve_format
    for model in (net, views):
        found = wsn.cka_matrix(model, images, batch_size=23, passes=1).values
        whole = all_pairs(wsn.representations.read_representations(model, images))
        np.testing.assert_allclose(found, whole, atol=1e-5)
    assert net.found == [True, False, True, True, False, False]  # only names and `representations` differ


def test_images_may_be_bytes():
    images = torch.randint(0, 256, (16, 3, 8, 8), dtype=torch.uint8)
    net = resnet()
    found = wsn.cka_matrix(net, images, batch_size=8, passes=1, prepare=lambda x: x / 255)
    again = wsn.cka_matrix(net, images / 255, batch_size=8, passes=1)
    assert np.array_equal(found.values, again.values)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 3}, "at least 4 images each, got one of 1 from 13 in batches of 3"),
        ({"batch_size": 12}, "at least 4 images each, got one of 1 from 13 in batches of 12"),
        ({"batch_size": 0}, "at least 4 images each, got one of 0 from 13 in batches of 0"),
        ({"passes": 0}, "passes must be one or more different"),
        ({"passes": [1, 1]}, r"passes must be one or more different integers ≥ 0, got \[1, 1\]"),
        ({"passes": [-1]}, r"passes must be .* integers ≥ 0, got \[-1\]"),
        ({"layers": {"two": ["hidden1"]}}, "layers must be of the networks one, got 'two'"),
    ],
)
def test_what_cannot_be_streamed_is_refused_before_any_work(arguments, message):
    def prepare(x):
        raise AssertionError("work")

    with pytest.raises(ValueError, match=message):
        wsn.representations.cka_sums(
            {"one": MLP(7, inputs=5)}, normal(0, 13, 5), prepare=prepare, **({"batch_size": 13} | arguments)
        )


def test_models_that_cannot_be_named_or_read():
    images = normal(0, 13, 5)
    with pytest.raises(ValueError, match="names of models must be without '/', got 'a/b'"):
        wsn.cka_matrices({"a/b": MLP(7, inputs=5)}, images)
    with pytest.raises(ValueError, match="models must be at least one, got none"):
        wsn.cka_matrices({}, images)
    with pytest.raises(ValueError, match="the Linear has no layer to read"):
        wsn.cka_matrix(nn.Linear(5, 2), images)
    with pytest.raises(ValueError, match="at least 4 images each, got one of 3 from 3 in batches of 256"):
        wsn.cka_matrix(MLP(7, inputs=5), images[:3])


def test_a_layer_must_run_on_every_batch():
    class Sometimes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.always, self.sometimes = nn.Linear(5, 3), nn.Linear(5, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.always(x) + (self.sometimes(x) if len(x) == 4 else 0)

    with pytest.raises(ValueError, match="sometimes did not run on this batch"):
        wsn.cka_matrix(Sometimes(), normal(0, 10, 5), batch_size=5)

    class Fewer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(5, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layer(x[:4])

    with pytest.raises(ValueError, match="layer must give one row for each image, got 4 for 5"):
        wsn.cka_matrix(Fewer(), normal(0, 10, 5), batch_size=5)


def test_not_finite_representations_are_named():
    net = MLP(7, inputs=5)
    nn.init.constant_(net.output.weight, float("inf"))
    with pytest.raises(ValueError, match="the representation of output or its Gram matrix is not finite"):
        wsn.cka_matrix(net, normal(0, 10, 5))


# -- components --


def test_components_are_the_singular_vectors():
    net, images = resnet(), normal(1, 30, 3, 8, 8)
    found = wsn.representations.decompose_layers(net, images)
    given = outputs(net, images)
    assert found.layers == tuple(given)
    centred = {name: (x.flatten(1) - x.flatten(1).mean(0)).double() for name, x in given.items()}
    for i, name in enumerate(found.layers):
        left, values, _ = torch.linalg.svd(centred[name], full_matrices=False)
        assert found.shares[i] == pytest.approx((values[0] ** 2 / values.square().sum()).item(), rel=1e-4)
        direction = left[:, 0] * left[left[:, 0].abs().argmax(), 0].sign()
        assert np.allclose(found.directions[i], direction, atol=1e-3)
        assert found.directions[i][np.abs(found.directions[i]).argmax()] > 0


@pytest.mark.parametrize("prepare", [lambda x: (x / 2,), lambda x: {"x": x / 2}])
def test_components_of_what_prepare_gives_as_arguments(prepare):
    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(5, 4)

        def forward(self, x):
            return self.layer(x)

    net, images = Network(), normal(1, 9, 5)
    found = wsn.representations.decompose_layers(net, images, prepare=prepare)
    expected = wsn.representations.decompose_layers(net, images / 2)
    assert found.shares == pytest.approx(expected.shares)


def test_without_the_first_component_a_layer_that_does_not_vary_has_no_cka():
    net, x = nn.Sequential(nn.Linear(5, 4), nn.ReLU()), normal(1, 9, 5)
    nn.init.constant_(net[0].bias, -1e3)
    with pytest.warns(RuntimeWarning, match="1: constant"):
        found = wsn.cka_matrix(net, x, without_component=True)
    assert np.isnan(found.values[1]).all() and np.isfinite(found.values[0, 0])


def test_of_equally_large_coordinates_the_first_is_positive():
    for seed in range(17):
        x = normal(seed, 3, 7).repeat_interleave(2, 0) * torch.tensor([1.0, -1.0] * 3)[:, None]
        scores = wsn.representations.decompose_layers(nn.Sequential(nn.Identity()), x).directions[0]
        assert scores[::2] == pytest.approx(-scores[1::2], rel=1e-5)
        assert scores[2 * np.abs(scores[::2]).argmax()] > 0


def test_components_of_what_does_not_vary_are_not_numbers():
    net = MLP(7, inputs=5)
    nn.init.constant_(net.hidden1.bias, -1e3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = wsn.representations.decompose_layers(net, normal(1, 9, 5))
    assert np.isfinite(found.shares[0]) and np.isnan(found.shares[1])
    assert np.isnan(found.directions[1]).all()


def test_the_share_is_that_of_singular_values_and_not_of_transposed_ones():
    x = normal(0, 40, 6) + 3 * torch.outer(normal(1, 40), normal(2, 6).abs())
    found = wsn.representations.decompose_layers(nn.Sequential(nn.Identity()), x)
    values = torch.linalg.svdvals((x - x.mean(0)).double()) ** 2
    assert found.shares[0] == pytest.approx((values[0] / values.sum()).item(), rel=1e-6)


# -- names, arrays, precision --


class Twice(nn.Module):
    """`relu` is called twice; another module has a colon in its name."""

    def __init__(self, other: str) -> None:
        super().__init__()
        self.relu = nn.ReLU()
        self.add_module(other, nn.Linear(3, 3))
        self.other = other

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.relu(-self.relu(self.get_submodule(self.other)(x)) + 0.5)


@pytest.mark.parametrize("other", ["block:a", "block:2", "relu:a", "a:b:3", ":", "relu:1"])
def test_a_layer_with_a_colon_in_its_name_is_that_layer(other):
    torch.manual_seed(0)
    net, x = Twice(other), normal(0, 7, 3)
    expected = {other: net.get_submodule(other)(x)}
    expected["relu"] = expected[other].relu()
    expected["relu:2"] = (0.5 - expected["relu"]).relu()
    assert wsn.layer_names(net, x) == list(expected)
    for name, value in expected.items():
        torch.testing.assert_close(
            wsn.representations.read_representations(net, x, layers=[name]), {name: value.detach()}
        )
    assert wsn.cka_matrix(net, x, batch_size=7, passes=1).rows == tuple(expected)
    with pytest.raises(ValueError, match="'relux:2' is not a layer of the Twice; did you mean relu"):
        wsn.layer_names(net, x, layers=["relux:2"])


def test_a_name_that_is_also_that_of_a_second_call_is_refused():
    net, x = Twice("relu:2"), normal(0, 7, 3)
    for layers in (None, ["relu"], ["relu", "relu:2"]):
        with pytest.raises(
            ValueError, match="names must differ, got 'relu:2' for a module and for call 2 of 'relu'"
        ):
            wsn.layer_names(net, x, layers=layers)
    assert wsn.layer_names(net, x, layers=["relu:2"]) == ["relu:2"]
    net = Twice("linear")  # the advice
    assert wsn.layer_names(net, x) == ["linear", "relu", "relu:2"]


@pytest.mark.parametrize("name", ["relu:0", "relu:1", "relu:x", "relu:"])
def test_a_call_that_there_is_not_is_no_layer(name):
    with pytest.raises(ValueError, match=f"'{name}' is not a layer of the Twice"):
        wsn.layer_names(Twice("linear"), normal(0, 7, 3), layers=[name])


def test_arrays_are_welcome_where_images_are_tensors():
    net, x = nn.Sequential(nn.Linear(3, 5), nn.ReLU()), normal(0, 14, 3)
    options = {"batch_size": 7, "passes": 2, "seed": 3}
    of_numpy = {"batch_size": np.int64(7), "passes": np.array(2), "seed": np.int32(3)}
    expected = wsn.cka_matrix(net, x, **options)
    for images in (x.numpy(), x.double().numpy(), x.tolist()):
        found = wsn.cka_matrix(net, images, **of_numpy)
        np.testing.assert_array_equal(found.values, expected.values)
        assert wsn.layer_names(net, images) == ["0", "1"]
        for function in (
            wsn.representations.read_representations,
            lambda *given: vars(wsn.representations.decompose_layers(*given)),
        ):
            for a, b in zip(function(net, images).values(), function(net, x).values(), strict=True):
                np.testing.assert_array_equal(a, b)


class Spectrum(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.fft.fft(x)


def test_a_complex_layer_is_read_and_has_no_cka():
    net, x = nn.Sequential(nn.Linear(3, 5), Spectrum()), normal(0, 7, 3)
    torch.testing.assert_close(
        wsn.representations.read_representations(net, x)["1"], torch.fft.fft(net[0](x)).detach()
    )
    for measure in (
        lambda **o: wsn.cka_matrix(net, x, passes=1, **o),
        lambda **o: wsn.representations.decompose_layers(net, x, **o),
    ):
        with pytest.raises(
            ValueError, match="must be real, got torch.complex64; give .* layers that are real"
        ):
            measure()
        measure(layers=["0"])


def test_a_script_with_a_torchvision_model_and_a_loader_is_a_few_lines(tmp_path):
    torch.manual_seed(0)
    net = torchvision.models.resnet18().eval()
    pairs = TensorDataset(normal(0, 20, 3, 32, 32), torch.arange(20))
    found = wsn.cka_matrix(net, DataLoader(pairs, batch_size=10), layers=["layer*.conv?", "fc"])
    assert len(found.rows) == 17 and found.rows[-1] == "fc"
    assert [label.get_text() for label in found.plot().get_xticklabels()] == [
        f"layer {i}" for i in (1, 2, 3, 4)
    ]
    found.explorer(tmp_path / "layers.html")
    assert "layer4.1.conv2" in (tmp_path / "layers.html").read_text()


def test_dominance_is_the_part_of_each_image_in_the_components_and_adds_up_to_1():
    net = nn.Sequential(nn.Linear(7, 5), nn.Tanh(), nn.Linear(5, 3))
    x = normal(0, 23, 7)
    x[11] *= 30
    found = wsn.representations.decompose_layers(net, x)
    wanted = sum(
        share * direction**2 for share, direction in zip(found.shares, found.directions, strict=True)
    ) / sum(found.shares)
    dominance = wsn.representations.dominance_of(found.directions, found.shares)
    assert dominance == pytest.approx(wanted, abs=1e-12)
    assert dominance.sum() == pytest.approx(1, abs=1e-12)
    assert dominance.argmax() == 11


def test_the_cka_of_a_network_in_double_precision_is_in_double_precision():
    net = nn.Sequential(nn.Linear(7, 5), nn.Tanh(), nn.Linear(5, 3)).double()
    x = normal(0, 23, 7).double()
    found = wsn.cka_matrix(net, x, batch_size=23, passes=1)
    assert np.abs(found.values - all_pairs(outputs(net, x))).max() < 1e-13


def test_a_network_in_double_precision_is_read_whatever_the_default_is():
    net, x = nn.Sequential(nn.Linear(3, 5), nn.ReLU()).double(), normal(0, 7, 3).double()
    expected = wsn.cka_matrix(net, x, batch_size=7, passes=1)
    try:
        torch.set_default_dtype(torch.float64)
        found = wsn.cka_matrix(net, x.numpy(), batch_size=7, passes=1)
    finally:
        torch.set_default_dtype(torch.float32)
    np.testing.assert_array_equal(found.values, expected.values)


def test_layers_that_a_refusal_asks_for_or_names_are_accepted():
    net, images = resnet(trained=False), normal(0, 4, 3, 8, 8)
    with pytest.raises(ValueError, match="did you mean") as caught:
        wsn.layer_names(net, images, layers=["stage1.block1.nrm2"])
    near = re.search(r"did you mean (.*?)( or |\?)", str(caught.value))[1]
    assert wsn.layer_names(net, images, layers=[near]) == [near]
