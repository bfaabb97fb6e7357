"""Refusals: what is refused leaves modules, parameters, buffers, hooks and generators as they were."""

import copy
import types
import warnings

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune

import wsnlib as wsn
from wsnlib.models import MLP

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*weight_norm. is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:the weights of embedding .Embedding. are neither counted"),
]


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(7)


def on_a_gpu() -> torch.Generator:
    return types.SimpleNamespace(device=torch.device("cuda", 0), get_state=lambda: torch.zeros(1))


# -- networks: five layers that could be changed, of which `third` is made impossible --


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(7, 11)
        self.second = nn.Conv1d(11, 13, 3)
        self.norm = nn.BatchNorm1d(13)
        self.third = nn.Conv1d(13, 5, 1)
        self.fourth = nn.Linear(5, 5)
        self.fifth = nn.Linear(5, 5)


def net(change=lambda net: None) -> Net:
    made = Net()
    change(made)
    return made


def tied_bias(net: Net) -> None:
    net.fifth.bias = net.fourth.bias


def tied_weight(net: Net) -> None:
    net.fifth.weight = net.fourth.weight


def tied_memory(net: Net) -> None:
    net.fifth.weight.data = net.fourth.weight.data


def tied_embedding(net: Net) -> None:
    net.embedding = nn.Embedding(5, 5)
    net.fourth.weight = net.embedding.weight


def used_twice(net: Net) -> None:
    net.sixth = net.fourth


def lazy(net: Net) -> None:
    net.third = nn.LazyConv1d(5, 1)


def integers(net: Net) -> None:
    net.third.weight = nn.Parameter(torch.ones(5, 13, 1, dtype=torch.int8), requires_grad=False)


def some_hook(net: Net) -> None:
    net.third.register_forward_hook(print)


def norm_of_another_size(net: Net) -> None:
    net.norm = nn.BatchNorm1d(5)


def sparse_net(change=lambda net: None, native=(), **options) -> Net:
    made = wsn.sparsify(net(), num_weights=70, generator=generator(), **options)
    wsn.to_sparse(made, layers=native)
    change(made)
    return made


COMPUTED = {  # what computes the weight of `third`
    "pruning": lambda net: prune.random_unstructured(net.third, "weight", amount=0.5),
    "weight norm": lambda net: nn.utils.weight_norm(net.third),
    "spectral norm": lambda net: nn.utils.spectral_norm(net.third),
    "new weight norm": lambda net: parametrizations.weight_norm(net.third),
    "new spectral norm": lambda net: parametrizations.spectral_norm(net.third),
    "new orthogonal": lambda net: parametrizations.orthogonal(net.third),
}
OTHER = {  # what else a layer's tensors may be
    "pruned bias": (lambda net: prune.random_unstructured(net.third, "bias", amount=2), "bias of third must"),
    "tied weight": (tied_weight, "got one tensor for fourth.weight and fifth.weight; exclude fourth"),
    "tied bias": (tied_bias, "got one tensor for fourth.bias and fifth.bias; exclude f"),
    "tied memory": (tied_memory, "got one tensor for fourth.weight and fifth.weight"),
    "tied embedding": (
        tied_embedding,
        "got one tensor for fourth.weight and embedding.weight; exclude fourth",
    ),
    "module used twice": (used_twice, "got one tensor for fourth.weight and sixth.weight; exclude fourth"),
    "lazy": (lazy, "third must have its weights, got a lazy layer; call the model on a batch first"),
    "integers": (
        integers,
        "the weight of third must be a plain floating-point .* got Parameter of torch.int8",
    ),
}

# -- calls, each with a generator --

SIZES = {"first": 2, "second": 2, "third": 2, "fourth": 2, "fifth": 2}
PAIRS = [wsn.widening.LayerPair("second", "third", ("norm",)), wsn.widening.LayerPair("fourth", "fifth")]


def sparsify(num_weights=70, **options):
    return lambda net, g: wsn.sparsify(net, num_weights=num_weights, generator=g, **options)


def split(**sizes):
    return lambda net, g: wsn.linear_bottleneck(net, sizes=sizes or SIZES, generator=g)


def narrow(pairs=PAIRS, **sizes):
    sizes = sizes or {"second": 3, "fourth": 2}
    return lambda net, g: wsn.nonlinear_bottleneck(net, sizes=sizes, pairs=pairs, generator=g)


CHANGES = {"sparsify": sparsify(), "channels": sparsify(70, pattern="channels"), "split": split(), "narrow": narrow()}  # fmt: skip
CASES = [
    *((call, lambda m=make: net(m), "weight of third must be a par", f"{name}, {kind}")
      for name, call in CHANGES.items() for kind, make in COMPUTED.items()),
    *((call, lambda m=make: net(m), message, f"{name}, {kind}")
      for name, call in CHANGES.items() for kind, (make, message) in OTHER.items()),
    *((lambda n, _, call=call: call(n, on_a_gpu()), net, "the generator must be on the CPU, got one on cuda:0", f"{name}, generator on a GPU")
      for name, call in CHANGES.items()),
    *((call, sparse_net, "of (first|third|second) must be a parameter, got one that is computed already", f"{name}, sparse already")
      for name, call in CHANGES.items()),
    (sparsify(4), net, "num_weights must be 5 to .*, got 4", "too few weights"),
    (sparsify(exclude=["sixth"]), net, "sixth must be a layer, got none", "unknown layer"),
    (sparsify(initialisation="release"), net, "initialisation must be one of 'released', 'unscaled', got 'release'", "initialisation"),
    (sparsify(pattern="channel"), net, "pattern must be one of 'random', 'channels', .*, got 'channel'", "pattern"),
    (split(), lambda: net(some_hook), "third must have no hooks, got some", "split, hook"),
    (narrow(), lambda: net(some_hook), "third must have no hooks, got some", "narrow, hook"),
    (split(first=2, third=6), net, "the bottleneck of third must be an integer of 1 to", "split, size"),
    (lambda n, g: wsn.linear_bottleneck(n, sizes={"": 2}, generator=g), lambda: nn.Linear(5, 7),
     "the model must hold its layers, got one Linear; put it", "split, a layer"),
    (narrow([PAIRS[0], wsn.widening.LayerPair("third", "fourth")], second=3, third=2), net,
     "must be in one pair, got third in two", "narrow, two pairs"),
    (narrow([PAIRS[1], wsn.widening.LayerPair("second", "third", ("nrm",))]), net, "nrm must be a batch norm layer", "narrow, norm"),
    (narrow(), lambda: net(norm_of_another_size), "norm must be of the 13 outputs of second, got 5", "narrow, norm's size"),
    (narrow(), lambda: net(lambda n: prune.l1_unstructured(n.norm, "weight", amount=2)),
     "the weight of norm must be a parameter", "narrow, pruned norm"),
    (lambda n, _: wsn.to_sparse(n, layers=["first", "second"]), sparse_net, "zeros around, got second", "to_sparse, kind"),
    (lambda n, _: wsn.to_sparse(n, layers=["first", "norm"]), sparse_net, "fifth, got 'norm'", "to_sparse, name"),
    (lambda n, _: wsn.to_sparse(n), lambda: sparse_net(lazy), "third must have its weights", "to_sparse, lazy"),
    (lambda n, _: wsn.densify(n), lambda: sparse_net(native=["fourth"]), "fourth must be a masked layer, got a sparse", "densify, native"),
    (lambda n, _: wsn.densify(n), lambda: sparse_net(lambda n: parametrizations.spectral_norm(n.third)),
     "the weight of third must have no other parametrisation, got _SpectralNorm", "densify, spectral norm"),
    (lambda n, _: parametrize.register_parametrization(n.fourth, "bias", nn.Identity()),
     lambda: sparse_net(native=["fourth"]), "the bias of a sparse layer must be", "parametrised bias, native"),
    (lambda n, _: n.second.reset_parameters(), sparse_net, "got kaiming_uniform_ on a copy", "reset_parameters"),
    (lambda n, _: n.fourth.reset_parameters(), lambda: sparse_net(native=["fourth"]), "got kaiming", "reset_parameters, native"),
]  # fmt: skip


def tensor_state(t: torch.Tensor | None):
    if t is None or isinstance(t, nn.parameter.UninitializedParameter):
        return id(t)
    values = t.detach().clone().double().nan_to_num(3.5).flatten().tolist() if not t.is_meta else None
    grad = None if t.grad_fn is not None else tensor_state(t.grad)
    return id(t), t.dtype, t.device, tuple(t.shape), t.requires_grad, values, grad


def snapshot(model: nn.Module):
    """All that a module is, hooks and the classes of modules included."""
    found = {}
    for path, module in model.named_modules(remove_duplicate=False):
        found[path] = [id(module), type(module), sorted(vars(type(module)))]
        for name, value in vars(module).items():
            if name == "_seen":  # what a mask remembers of its last look
                continue
            if isinstance(value, torch.Tensor):
                value = tensor_state(value)
            elif name in ("_parameters", "_buffers"):
                value = {key: tensor_state(t) for key, t in value.items()}
            elif isinstance(value, dict):
                value = {key: id(item) for key, item in value.items()}
            if name in ("_seen", "_known"):  # what is remembered
                continue
            plain = isinstance(value, bool | int | float | str | tuple | dict)
            found[path].append((name, value if plain else id(value)))
    return found


@pytest.mark.parametrize(("call", "make", "message"), [pytest.param(*case[:3], id=case[3]) for case in CASES])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_what_is_refused_changes_nothing(call, make, message, dtype, request):
    model, g = make(), generator()
    if dtype == torch.bfloat16:
        model = model if "memory" in request.node.name else model.to(dtype)  # which unties it
        for parameter in model.parameters():
            parameter.requires_grad = False
    before, drawn, everywhere = snapshot(model), g.get_state(), torch.random.get_rng_state()
    with pytest.raises((ValueError, RuntimeError), match=message):
        call(model, g)
    assert snapshot(model) == before
    assert torch.equal(g.get_state(), drawn)
    assert torch.equal(torch.random.get_rng_state(), everywhere)


# -- what is not refused: other devices, other layers, frozen and half precision --


@pytest.mark.parametrize(
    "call",
    [*CHANGES.values(), lambda n, _: wsn.to_dense(wsn.to_sparse(n, layers=[]))],
    ids=[*CHANGES, "to_sparse and back"],
)
@pytest.mark.parametrize("device", ["context", "default", "model"])
def test_another_default_device_changes_nothing_of_what_is_made(call, device):
    torch.manual_seed(3)
    expected, found = net(), net()
    found.load_state_dict(expected.state_dict())
    call(expected, generator())
    if device == "model":
        call(found.to("meta"), generator())
        assert {n: t.shape for n, t in found.state_dict().items()} == {n: t.shape for n, t in expected.state_dict().items()}  # fmt: skip
        return
    previous = torch.get_default_device()
    try:
        if device == "default":
            torch.set_default_device("meta")
            call(found, generator())
        else:
            with torch.device("meta"):
                call(found, generator())
    finally:
        torch.set_default_device(previous if device == "default" else None)
    for name, value in expected.state_dict().items():
        assert torch.equal(found.state_dict()[name], value)


@pytest.mark.parametrize("native", [False, True])
def test_native_and_masked_forms_follow_each_other_under_another_default_device(native):
    model = sparse_net(native=["first", "fourth"] if native else [])
    x = torch.ones(2, 7)
    expected = model.first(x)
    with torch.device("meta"):
        changed = wsn.to_dense(model) if native else wsn.to_sparse(model, layers=["first", "fourth"])
        torch.testing.assert_close(changed.first(x), expected)


@pytest.mark.parametrize("kind", COMPUTED)
def test_layers_that_are_left_alone_may_be_computed_and_are_counted(kind):
    model = net(COMPUTED[kind])
    assert wsn.num_weights(model) == 77 + 429 + 65 + 25 + 25
    wsn.sparsify(model, num_weights=300, exclude=["third"], generator=generator())
    assert wsn.num_weights(model) == 300
    wsn.linear_bottleneck(net(COMPUTED[kind]), sizes={"first": 2}, generator=generator())


def test_computed_weights_are_counted_one_by_one():
    model = nn.Sequential(*[nn.Linear(7, 7) for _ in range(5)])
    for layer in model:
        parametrizations.spectral_norm(layer)
    assert wsn.num_weights(model) == 5 * 49


def test_excluded_layers_count_what_they_hold_once():
    shared = net(tied_weight)
    wsn.sparsify(shared, num_weights=300, exclude=["fourth"], generator=generator())
    assert wsn.num_weights(shared) == 300
    again = sparse_net()
    kept = wsn.num_weights(again.first)
    again.second = nn.Conv1d(11, 13, 3)
    exclude = ["first", "third", "fourth", "fifth"]
    wsn.sparsify(again, num_weights=270, exclude=exclude, generator=generator())
    assert wsn.num_weights(again) == 270 and wsn.num_weights(again.first) == kept


def test_gradients_of_the_dense_shape_are_dropped():
    layer = nn.Linear(7, 5)
    layer(torch.ones(2, 7)).sum().backward()
    wsn.sparsify(layer, num_weights=11, generator=generator())
    layer(torch.ones(2, 7)).sum().backward()
    assert layer.parametrizations.weight.original.grad.shape == (11,)


def test_widened_layers_are_frozen_and_precise_as_they_were():
    model = net().bfloat16()
    model.norm.float()
    model.third.weight.requires_grad_(False)
    wsn.nonlinear_bottleneck(model, sizes={"second": 3}, pairs=PAIRS, generator=generator())
    assert [p.requires_grad for p in model.third.parameters()] == [False, True]
    assert model.norm.weight.dtype == model.norm.running_mean.dtype == torch.float32
    assert model.second.weight.dtype == torch.bfloat16
    wsn.linear_bottleneck(model, sizes={"third": 2}, generator=generator())
    assert {n: p.requires_grad for n, p in model.third.named_parameters()} == {
        "reduce.weight": False, "expand.weight": False, "expand.bias": True,
    }  # fmt: skip


# -- PyTorch's idioms --


def forms():
    made = (sparse_net(), sparse_net(native=["fourth"]))
    return [made[0].second, made[0].fourth, made[1].fourth]


IN_PLACE = {
    name: getattr(nn.init, name)
    for name in ("uniform_", "normal_", "zeros_", "constant_", "xavier_uniform_", "xavier_normal_", "kaiming_normal_",
                 "kaiming_uniform_", "trunc_normal_", "orthogonal_", "eye_", "dirac_", "sparse_")
} | {
    "data": lambda w: w.data.normal_(),
    "entry": lambda w: w.data.__setitem__(0, 1),
    "all of data": lambda w: setattr(w, "data", torch.ones_like(w)),
    "product": lambda w: w.mul_(2),
    "out": lambda w: torch.zeros(w.shape, out=w),
}  # fmt: skip


@pytest.mark.parametrize("name", IN_PLACE)
@pytest.mark.parametrize("form", [0, 1, 2], ids=["convolution", "masked", "native"])
def test_a_weight_changed_in_place_is_refused(name, form):
    layer = forms()[form]
    options = {"constant_": {"val": 3.0}, "sparse_": {"sparsity": 0.5}}.get(name, {})
    if name == {0: "eye_", 1: "dirac_", 2: "dirac_"}[form] or (name, form) == ("sparse_", 0):
        return  # not for this number of dimensions
    before = layer.weight.clone()
    with (
        torch.no_grad(),
        pytest.raises(RuntimeError, match="must be assigned as a whole, got .* write layer.weight ="),
    ):
        IN_PLACE[name](layer.weight, **options)
    assert torch.equal(layer.weight, before)


def test_functions_that_initialise_a_network_are_refused_and_assigning_works():
    def initialise(module: nn.Module) -> None:
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)

    model = sparse_net()
    with pytest.raises(RuntimeError, match="or initialise the layers before wsn.sparsify"):
        model.apply(initialise)
    mask = wsn.layer_masks(model)["fourth"]
    model.fourth.weight = torch.full((5, 5), 2.0)
    assert torch.equal(model.fourth.weight, 2.0 * mask)
    wsn.sparsify(net().apply(initialise), num_weights=300, generator=generator())


def test_a_computed_weight_is_a_tensor_like_any_other():
    for layer in forms():
        weight = layer.weight
        for plain in (weight.clone(), weight * 1, weight.detach(), weight.flatten(), torch.relu(weight)):
            assert type(plain) is torch.Tensor
        assert torch.equal(copy.deepcopy(weight.detach()).mul_(2), 2 * weight)


def test_a_computed_weight_can_be_saved(tmp_path):
    for layer in forms():
        torch.save({"w": layer.weight.data}, tmp_path / "w.pt")
        loaded = torch.load(tmp_path / "w.pt", weights_only=True)["w"]
        assert type(loaded) is torch.Tensor and torch.equal(loaded, layer.weight)


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_masked_layers_are_compiled_whole(backend):
    model = nn.Sequential(wsn.sparsify(nn.Linear(7, 5), num_weights=11, generator=generator()))
    x = torch.ones(2, 7)
    compiled = torch.compile(model, backend=backend, fullgraph=True)
    torch.testing.assert_close(compiled(x), model(x))
    product, weight = torch.compile(lambda x, w: x @ w.t(), backend=backend), model[0].weight.data
    torch.testing.assert_close(product(x, weight), x @ weight.t())


# -- weight decay --


@pytest.mark.parametrize("form", ["dense", "masked", "native"])
def test_weights_decay_and_nothing_else_does(form):
    model = MLP(13, inputs=7)
    model.norm, model.planes, model.embedding = nn.BatchNorm1d(3), nn.LayerNorm((3, 5)), nn.Embedding(7, 3)
    weights = {"hidden1.weight", "output.weight"}
    if form != "dense":
        wsn.sparsify(model, num_weights=101, generator=generator())
        weights = {f"{layer}.parametrizations.weight.original" for layer in ("hidden1", "output")}
    if form == "native":
        wsn.to_sparse(model)
    weights |= {"embedding.weight"}
    decayed, rest = wsn.masks.decay_groups(model, weight_decay=0.3)
    names = {id(p): name for name, p in model.named_parameters()}
    assert {names[id(p)] for p in decayed["params"]} == weights
    assert {names[id(p)] for p in rest["params"]} == set(names.values()) - weights
    assert (decayed["weight_decay"], rest["weight_decay"]) == (0.3, 0.0)
    assert len(wsn.masks.decay_groups(model.norm, weight_decay=0.3)) == 1


def test_a_vector_that_is_parametrised_is_no_weight():
    norm = parametrize.register_parametrization(nn.BatchNorm1d(3), "weight", nn.Identity())
    (rest,) = wsn.masks.decay_groups(nn.Sequential(norm), weight_decay=0.3)
    assert rest["weight_decay"] == 0


# -- layers that are not counted --


def transformer() -> nn.Module:
    model = nn.Module()
    model.embedding = nn.Embedding(5, 8)
    model.attention = nn.MultiheadAttention(8, 2)
    model.memory = nn.LSTM(8, 8)
    model.cell = nn.GRUCell(8, 8)
    model.up = parametrizations.weight_norm(nn.ConvTranspose1d(8, 8, 3))
    model.product = nn.Bilinear(8, 8, 8)
    model.output = nn.Linear(8, 5)
    return model


@pytest.mark.parametrize(
    "first",
    [
        wsn.num_weights,
        wsn.connectivity,
        wsn.density,
        lambda m: wsn.sparsify(m, num_weights=50, generator=generator()),
    ],
    ids=["num_weights", "connectivity", "density", "sparsify"],
)
def test_layers_that_are_not_counted_are_named_once(first):
    model = transformer()
    with warnings.catch_warnings(record=True, action="always") as caught:
        first(model)
        assert wsn.num_weights(model) in (50, 64 + 40)
        wsn.density(model)
    assert [str(warning.message) for warning in caught] == [
        "the weights of embedding (Embedding), attention (MultiheadAttention), memory (LSTM), cell (GRUCell), "
        "up (ConvTranspose1d), product (Bilinear) are neither counted nor made sparse (of an attention, its input "
        "projections): Linear and Conv layers are"
    ]


# -- sparse layers that are traced or transformed --

TRANSFORMS = {
    "torch.jit.trace": lambda net, x: torch.jit.trace(net, x),
    "Proxy": lambda net, x: torch.fx.symbolic_trace(net),
    "torch.func": lambda net, x: torch.func.vmap(net)(x),
    "torch.func ": lambda net, x: torch.func.grad(lambda x: net(x).sum())(x),
    "torch.func  ": lambda net, x: torch.func.jvp(net, (x,), (x,)),
    "torch.compile": lambda net, x: torch.compile(net, backend="eager", fullgraph=True)(x),
    "torch.export": lambda net, x: torch.export.export(net, (x,), strict=True),
}


@pytest.mark.filterwarnings("ignore:.torch.jit")
@pytest.mark.parametrize("name", TRANSFORMS)
@pytest.mark.parametrize("layer", [nn.Linear(7, 5), nn.Conv2d(3, 5, 3)], ids=["linear", "convolution"])
def test_where_a_native_layer_cannot_go_to_dense_is_named(name, layer):
    net = nn.Sequential(wsn.sparsify(copy.deepcopy(layer), num_weights=11, generator=generator()))
    x = torch.ones(2, 7) if isinstance(layer, nn.Linear) else torch.ones(2, 3, 5, 5)
    if name != "Proxy":
        TRANSFORMS[name](net, x)
    with pytest.raises(
        Exception, match=rf"on tensors as it is, got .*{name.strip()}.*; call wsn.to_dense\(model\)"
    ):
        TRANSFORMS[name](wsn.to_sparse(net), x)


def test_compiling_goes_around_native_layers():
    net = nn.Sequential(wsn.to_sparse(wsn.sparsify(nn.Linear(7, 5), num_weights=11, generator=generator())))
    x = torch.ones(2, 7)
    torch.testing.assert_close(torch.compile(net, backend="eager")(x), net(x))


def test_a_warning_is_of_the_line_that_asked_for_what_is_undefined():
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    with pytest.warns(RuntimeWarning, match="^x: constant over the examples") as said:
        wsn.cka(torch.ones(5, 3), x)
    assert [warning.filename for warning in said] == [__file__]


def test_a_text_is_no_sequence_of_names():
    model = nn.Sequential(*(nn.Linear(4, 4) for _ in range(11)))
    for exclude, name in (("10", "10"), (["10", 1], "1")):
        for use in (
            lambda e=exclude: wsn.sparsify(model, num_weights=90, exclude=e, generator=generator()),
            lambda e=exclude: wsn.widening.linear_bottleneck_sizes(model, exclude=e),
        ):
            with pytest.raises(
                ValueError, match=rf"exclude must be a sequence of names, got .*; write \['{name}'\]"
            ):
                use()
    images = torch.ones(8, 4)
    for layers, message in (
        ("10", r"layers must be a sequence of names, got '10'; write \['10'\]"),
        ([model[0]], "layers must be names or types, got a Linear; layer_names lists the names"),
    ):
        with pytest.raises(ValueError, match=message):
            wsn.representations.read_representations(model, images, layers=layers)
        with pytest.raises(ValueError, match=message):
            wsn.cka_matrix(model, images, layers=layers, batch_size=4)


def test_a_layer_that_is_the_model_has_a_name():
    with pytest.raises(ValueError, match="the weight of the model must be a plain floating-point parameter"):
        wsn.sparsify(nn.Linear(4, 4, dtype=torch.complex64), num_weights=5, generator=generator())
    with pytest.raises(
        ValueError, match="the weights kept in the model must be an integer of 1 to 16, got 0"
    ):
        wsn.sparsify(nn.Linear(4, 4), allocation={"": 0}, generator=generator())
