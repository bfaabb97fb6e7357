"""Masks that move: as many weights in every layer at every moment, and what SET and RigL say which."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import wsnlib as wsn
from wsnlib import masks
from wsnlib.data import load_data
from wsnlib.training import Checkpoint, MovingMasks

SGD = {"lr": 0.1, "momentum": 0.9, "weight_decay": 1e-3}


def net(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    layers = nn.Sequential(
        nn.Conv2d(1, 5, 3), nn.ReLU(), nn.Flatten(), nn.Linear(180, 11), nn.ReLU(), nn.Linear(11, 10)
    )
    return wsn.sparsify(layers, num_weights=311, generator=torch.Generator().manual_seed(seed))


def batch(seed: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(17, 1, 8, 8, generator=generator), torch.arange(17) % 10


def stepped(model, optimiser, *, seed: int = 1):
    x, y = batch(seed)

    def loss():
        return F.cross_entropy(model(x), y)

    optimiser.zero_grad()
    loss().backward()
    optimiser.step()
    return loss


def weights(model):
    return {name: layer.weight.detach().clone() for name, layer in masks.weight_layers(model).items()}


@pytest.mark.parametrize("method", ["set", "rigl"])
@pytest.mark.parametrize("optimiser", ["sgd", "adam"])
def test_no_layer_ever_gains_or_loses_a_weight_and_what_stays_keeps_value_and_momentum(method, optimiser):
    model = net()
    kinds = {"sgd": torch.optim.SGD(model.parameters(), **SGD), "adam": torch.optim.Adam(model.parameters())}
    opt = kinds[optimiser]
    move = MovingMasks(model, opt, method=method, steps=40, every=3)
    kept = {name: int(mask.sum()) for name, mask in masks.layer_masks(model).items()}
    moves = 0
    for step in range(40):
        loss = stepped(model, opt, seed=step)
        before, was = weights(model), masks.layer_masks(model)
        state = {n: (p, dict(opt.state[p])) for n, p in model.named_parameters() if "original" in n}
        state = {n: {k: v.clone() for k, v in s.items() if v.shape == p.shape} for n, (p, s) in state.items()}
        moved = move(loss)
        now = masks.layer_masks(model)
        assert {name: int(mask.sum()) for name, mask in now.items()} == kept
        moves += moved > 0
        assert (moved > 0) == any(not torch.equal(was[n], now[n]) for n in now)
        for name, weight in weights(model).items():
            if name not in now:
                assert torch.equal(weight, before[name])
                continue
            stay, new = was[name] & now[name], now[name] & ~was[name]
            assert torch.equal(weight[stay], before[name][stay])
            assert (weight[new] == 0).all() and (weight[~now[name]] == 0).all()
            values = masks.weight_layers(model)[name].get_parameter("parametrizations.weight.original")
            for key, old in state[f"{name}.parametrizations.weight.original"].items():
                full = torch.zeros(was[name].shape)
                full[was[name]] = old
                assert torch.equal(opt.state[values][key], torch.where(new, 0, full)[now[name]])
    assert moves == 9  # every third step before the thirtieth


def test_what_is_given_up_is_nearest_to_0_and_rigl_grows_where_the_gradient_is_largest():
    model = net()
    opt = torch.optim.SGD(model.parameters(), **SGD)
    loss = stepped(model, opt)
    dense = {n: w.clone().requires_grad_() for n, w in weights(model).items()}
    x, y = batch()
    h = F.conv2d(x, dense["0"], model[0].bias).relu().flatten(1)
    h = F.linear(h, dense["3"], model[3].bias).relu()
    F.cross_entropy(F.linear(h, dense["5"], model[5].bias), y).backward()
    was = masks.layer_masks(model)
    MovingMasks(model, opt, method="rigl", steps=10**9, every=1, fraction=0.2)(loss)
    for name, mask in masks.layer_masks(model).items():
        lost, new = was[name] & ~mask, mask & ~was[name]
        assert lost.sum() == new.sum() == min(round(0.2 * int(mask.sum())), int((~was[name]).sum())) > 0
        assert dense[name].detach().abs()[lost].max() <= dense[name].detach().abs()[was[name] & mask].min()
        gradient = dense[name].grad.abs()
        assert gradient[new].min() >= gradient[~was[name] & ~new].max()


def test_the_gradient_that_rigl_asks_for_leaves_no_trace_in_buffers_and_random_numbers():
    torch.manual_seed(0)
    layers = nn.Sequential(
        nn.Flatten(), nn.Linear(64, 20), nn.BatchNorm1d(20), nn.Dropout(0.3), nn.Linear(20, 10)
    )
    model = wsn.sparsify(layers, num_weights=500, generator=torch.Generator())
    opt = torch.optim.SGD(model.parameters(), **SGD)
    loss = stepped(model, opt)
    before = {name: buffer.clone() for name, buffer in model.named_buffers() if "witness" not in name}
    state = torch.get_rng_state()
    assert MovingMasks(model, opt, method="rigl", steps=10**9, every=1)(loss) > 0
    now = dict(model.named_buffers())
    assert len(before) == 3 and all(torch.equal(now[name], buffer) for name, buffer in before.items())
    assert torch.equal(torch.get_rng_state(), state)


def test_where_no_gradient_says_so_weights_still_grow_where_they_were_absent():
    model = net()
    opt = torch.optim.SGD(model.parameters(), **SGD)
    kept = {name: int(mask.sum()) for name, mask in masks.layer_masks(model).items()}
    move = MovingMasks(model, opt, method="rigl", steps=10, every=1)
    assert move(lambda: sum(0 * layer.weight.sum() for layer in masks.weight_layers(model).values())) > 0
    assert {name: int(mask.sum()) for name, mask in masks.layer_masks(model).items()} == kept


@pytest.mark.parametrize("method", ["set", "rigl"])
def test_layers_without_a_mask_and_frozen_ones_stay_as_they_are(method):
    dense = wsn.StaticSparsity(wsn.MLPSpec(width=5, inputs=64), width=5)
    protocol = wsn.DynamicSparseTraining(epochs=2, every=1, method=method)
    run = wsn.Experiment(model=dense, data=wsn.Digits(train_size=200), training=protocol)
    assert wsn.run(run, device="cpu").status == "finished"

    net = nn.Sequential(nn.Linear(8, 9), nn.Linear(9, 8))
    wsn.sparsify(net, num_weights=40, generator=torch.Generator().manual_seed(0))
    net[0].requires_grad_(False)
    before, masks = [layer.weight.clone() for layer in net], wsn.layer_masks(net)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    move = wsn.MovingMasks(net, optimizer, method=method, steps=20, every=1, seed=3)
    assert move(lambda: net(torch.ones(3, 8)).square().mean()) > 0
    assert torch.equal(net[0].weight, before[0]) and not torch.equal(wsn.layer_masks(net)["1"], masks["1"])


@pytest.mark.parametrize(
    "change", [{"fraction": 2.0}, {"fraction": 0.0}, {"until": 1.5}, {"every": 0}], ids=str
)
def test_a_schedule_that_is_none_is_refused(change):
    net = nn.Linear(8, 9)
    ((name, value),) = change.items()
    with pytest.raises(ValueError, match=rf"{name} must be .*, got {value}; give"):
        wsn.MovingMasks(
            net, torch.optim.SGD(net.parameters(), lr=0.1), method="set", steps=20, **({"every": 5} | change)
        )


def test_rigl_refuses_layers_that_compute_no_gradient_of_absent_weights():
    model = net()
    opt = torch.optim.SGD(model.parameters(), **SGD)
    move = MovingMasks(model, opt, method="rigl", steps=10**9, every=1)
    wsn.to_sparse(model, layers=["3"])
    refusal = pytest.raises(
        ValueError, match="must be masked for RigL, got a sparse-compute one in '3'; call"
    )
    with refusal:
        move(stepped(model, opt))
    with refusal:
        MovingMasks(model, opt, method="rigl", steps=10**9)
    assert MovingMasks(model, opt, method="set", steps=10**9, every=1)(stepped(model, opt)) > 0
    wsn.to_dense(model)
    assert MovingMasks(model, opt, method="rigl", steps=10**9, every=1)(stepped(model, opt)) > 0


def test_rigl_refuses_layers_whose_gradient_it_cannot_see():
    model = wsn.sparsify(nn.Sequential(nn.Linear(8, 9)), num_weights=40, generator=torch.Generator())
    model[0].compile(backend="aot_eager")
    opt = torch.optim.SGD(model.parameters(), **SGD)
    model(torch.ones(3, 8)).sum().backward()
    move = MovingMasks(model, opt, method="rigl", steps=10**9, every=1)
    with pytest.raises(
        ValueError, match="must be called uncompiled for RigL, got no such call of 0; give the"
    ):
        move(lambda: model(torch.ones(3, 8)).sum())
    whole = torch.compile(model, backend="aot_eager")
    whole(torch.ones(3, 8))
    with pytest.raises(ValueError, match="no such call of _orig_mod.0; give the model as it was before"):
        MovingMasks(whole, opt, method="rigl", steps=10**9, every=1)(lambda: whole(torch.ones(3, 8)).sum())


def test_set_grows_anywhere_and_a_seed_says_where():
    def moved(seed, *, after=0, steps=10, device="cpu"):
        model = net()
        opt = torch.optim.SGD(model.parameters(), **SGD)
        move = MovingMasks(model, opt, method="set", steps=steps, every=1, seed=seed)
        move.done = after
        loss = stepped(model, opt)
        with torch.device(device):  # that of new tensors
            move(loss)
        return masks.layer_masks(model)["3"]

    assert torch.equal(moved(1), moved(1, device="meta")) and not torch.equal(moved(1), moved(2))
    first, other = (moved(1, after=after, steps=10**6) for after in (0, 1))  # as many, but elsewhere
    assert first.sum() == other.sum() and not torch.equal(first, other)
    was = masks.layer_masks(net())["3"]
    absent = ~was
    grown = torch.stack([moved(seed) & absent for seed in range(60)]).float().mean(0)[absent]
    share = round(0.3 / 2 * (1 + math.cos(math.pi / 7.5)) * int(was.sum())) / int(absent.sum())
    assert abs(grown.mean() - share) < 1e-6
    assert grown.max() < share + 5 * (share * (1 - share) / 60) ** 0.5


def test_the_fraction_falls_along_half_a_cosine_and_is_0_at_the_end():
    model = nn.Sequential(nn.Linear(100, 100))
    wsn.sparsify(model, num_weights=2000, generator=torch.Generator())
    opt = torch.optim.SGD(model.parameters(), lr=0.0)
    move = MovingMasks(model, opt, method="set", steps=80, every=10, fraction=0.5, until=0.5)
    found = [move(lambda: torch.tensor(0.0)) for _ in range(80)]
    expected = [round(500 * (1 + math.cos(math.pi * t / 40))) for t in (10, 20, 30)]
    assert [n for n in found if n] == expected
    with pytest.raises(ValueError, match="method must be one of 'set', 'rigl', got 'snip'"):
        MovingMasks(model, opt, method="snip", steps=1)


# -- in a training --

MODEL = wsn.StaticSparsity(wsn.MLPSpec(width=5, inputs=64), width=40, allocation=wsn.ErdosRenyi())


@pytest.mark.parametrize("method", ["set", "rigl"])
def test_a_training_moves_masks_and_keeps_every_layer_s_weights(method):
    digits = load_data(wsn.Digits())
    protocol = wsn.DynamicSparseTraining(epochs=4, method=method, every=7)
    model = wsn.build(MODEL)
    before = masks.layer_masks(model)
    seen = []
    wsn.train(model, digits, protocol, seed=0, observe=lambda _, m: seen.append(masks.layer_masks(m)))
    kept = wsn.weights_per_layer(MODEL)
    assert all({n: int(m.sum()) for n, m in each.items()} == {n: kept[n] for n in each} for each in seen)
    assert not torch.equal(seen[1]["hidden1"], before["hidden1"])
    assert torch.equal(seen[3]["hidden1"], seen[4]["hidden1"])  # after three quarters of the steps


def test_masks_that_never_move_are_static_ones_bit_for_bit():
    digits = load_data(wsn.Digits())
    one, other = wsn.build(MODEL), wsn.build(MODEL)
    static = wsn.train(one, digits, wsn.Training(epochs=2), seed=0)
    moving = wsn.train(other, digits, wsn.DynamicSparseTraining(epochs=2, method="rigl", every=10**6), seed=0)
    assert static.history == moving.history


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_gradient_that_rigl_asks_for_is_computed_in_the_precision_of_the_training(precision):
    seen = set()

    class Noting(nn.Linear):
        def forward(self, x):
            seen.add(("trained" if self.training else "evaluated", super().forward(x).dtype))
            return super().forward(x)

    model = wsn.sparsify(
        nn.Sequential(nn.Flatten(), Noting(64, 10)), num_weights=90, generator=torch.Generator()
    )
    protocol = wsn.DynamicSparseTraining(epochs=1, method="rigl", every=3, precision=precision)
    wsn.train(model, load_data(wsn.Digits(train_size=500)), protocol, seed=0)
    dtype = getattr(torch, precision)
    assert seen == {("trained", dtype), ("evaluated", dtype)}


class Kept:
    """A file in memory, which stops the training after an epoch."""

    def __init__(self, last: int) -> None:
        self.state, self.left = None, last

    def read(self):
        return self.state

    def write(self, state):
        self.state = state
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt

    def set_aside(self):
        raise AssertionError


@pytest.mark.parametrize("method", ["set", "rigl"])
def test_a_training_with_moving_masks_that_was_interrupted_ends_as_one_that_was_not(method):
    digits = load_data(wsn.Digits())
    protocol = wsn.DynamicSparseTraining(epochs=5, method=method, every=7, momentum=0.9, learning_rate=0.02)
    whole, again, file = wsn.build(MODEL), wsn.build(MODEL), Kept(2)
    expected = wsn.train(whole, digits, protocol, seed=3)
    made = {"made_by": {"x": "1"}, "seconds_between": 0.0}
    with pytest.raises(KeyboardInterrupt):
        wsn.train(again, digits, protocol, seed=3, checkpoint=Checkpoint(file, **made))
    resumed = wsn.build(MODEL)
    found = wsn.train(resumed, digits, protocol, seed=3, checkpoint=Checkpoint(file, **made))
    assert found.history == expected.history
    assert torch.equal(resumed.hidden1.weight, whole.hidden1.weight)


def test_a_spec_of_moving_masks_is_planned_in_torch_and_has_a_key_of_its_own():
    protocol = wsn.DynamicSparseTraining(epochs=100, method="set")
    run = wsn.Experiment(model=MODEL, data=wsn.Digits(), training=protocol)
    assert wsn.specs.from_dict(wsn.specs.to_dict(run)) == run
    assert wsn.experiments.plan(run, device="cpu").engine == "masked"
    with pytest.raises(
        ValueError, match="masks must stay in joint training, got DynamicSparseTraining; train"
    ):
        wsn.training.train_jointly([wsn.build(MODEL)], load_data(wsn.Digits()), [protocol], seeds=[0])
    with pytest.raises(
        ValueError, match=r"DynamicSparseTraining.method must be one of 'set', 'rigl', got 'x'"
    ):
        wsn.DynamicSparseTraining(epochs=1, method="x")
