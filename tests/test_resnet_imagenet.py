"""ResNet-50 and its like: torchvision's networks, and what scaling the third stage changes."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

import wsnlib as wsn
from wsnlib.models import ResNetImageNet, from_torchvision


def on_meta(*args, **options) -> ResNetImageNet:
    with torch.device("meta"):
        return ResNetImageNet(*args, **options)


def convolutions(net: nn.Module) -> dict[str, nn.Conv2d]:
    return {name: m for name, m in net.named_modules() if isinstance(m, nn.Conv2d)}


@pytest.fixture(scope="module")
def torchvision_50() -> nn.Module:
    torch.manual_seed(3)
    return torchvision.models.resnet50(weights=None)


def test_resnet_50_is_torchvisions_bit_for_bit(torchvision_50):
    net = ResNetImageNet()
    net.load_state_dict(from_torchvision(torchvision_50.state_dict()))
    x = torch.randn(2, 3, 65, 65, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        for training in (True, False):  # training first: evaluation then uses statistics that it changed
            assert torch.equal(torchvision_50.train(training)(x), net.train(training)(x))
        assert not torch.equal(net(x)[0], net(x)[1])


def test_fan_out_draws_what_torchvision_draws(torchvision_50):
    torch.manual_seed(3)
    fresh = from_torchvision(torchvision.models.resnet50(weights=None).state_dict())
    torch.manual_seed(3)
    ours = ResNetImageNet().state_dict()
    assert list(ours) == list(fresh)
    assert all(torch.equal(values, fresh[name]) for name, values in ours.items())


def test_default_initialisation_is_pytorchs():
    torch.manual_seed(3)
    net = ResNetImageNet(2, third_stage_blocks=1, num_classes=5, initialisation="default")
    torch.manual_seed(3)
    assert torch.equal(net.conv1.weight, nn.Conv2d(3, 2, 7, bias=False).weight)


def test_resnet_101_is_torchvisions_bit_for_bit():
    with torch.device("meta"):
        theirs = torchvision.models.resnet101(weights=None).eval()
        ours = ResNetImageNet(third_stage_blocks=23).eval()
    generator = torch.Generator().manual_seed(5)
    state = {}
    for name, value in theirs.state_dict().items():
        scale = 0.5 / max(1, value[0].numel()) ** 0.5 if value.ndim > 1 else 0.1
        drawn = scale * torch.randn(value.shape, generator=generator)
        state[name] = drawn + (1.0 if value.ndim == 1 and not name.endswith(("bias", "mean")) else 0.0)
        if "var" in name:
            state[name] = state[name].abs()
    theirs.load_state_dict(state, assign=True)
    ours.load_state_dict(from_torchvision(state), assign=True)
    x = torch.randn(2, 3, 33, 33, generator=generator)
    with torch.no_grad():
        expected = theirs(x)
        assert expected.isfinite().all() and not torch.equal(expected[0], expected[1])
        assert torch.equal(ours(x), expected)


@pytest.mark.parametrize(("blocks", "depth"), [(6, 50), (17, 83), (23, 101), (1, 35)])
def test_depth_counts_the_layers_on_the_longest_path(blocks, depth):
    net = on_meta(third_stage_blocks=blocks)
    on_path = [name for name in convolutions(net) if "shortcut" not in name]
    assert len(on_path) + 1 == depth
    assert [len(net.get_submodule(f"layer{s}")) for s in (1, 2, 3, 4)] == [3, 4, blocks, 3]


@pytest.mark.parametrize(("multiplier", "inner"), [(2.8, 717), (0.5, 128), (3, 768)])
def test_the_multiplier_scales_the_third_stage_alone(multiplier, inner):
    base, wide = on_meta(), on_meta(third_stage_width_multiplier=multiplier)
    mine, theirs = convolutions(wide), convolutions(base)
    assert list(mine) == list(theirs)
    for name, layer in mine.items():
        i, o = theirs[name].in_channels, theirs[name].out_channels
        if name.startswith("layer3"):
            o = {256: inner, 1024: 4 * inner}[o]
            i = {256: inner, 512: 512, 1024: 4 * inner}[i]
        elif name in ("layer4.0.conv1", "layer4.0.shortcut.0"):
            i = 4 * inner
        assert (layer.in_channels, layer.out_channels, layer.stride) == (i, o, theirs[name].stride), name
    assert wide.linear.weight.shape == base.linear.weight.shape == (1000, 2048)


def test_known_numbers_of_parameters():
    # 25.6 and 44.5 million are torchvision's; 11 more blocks of the third stage have 1,117,184 each
    count = {b: sum(p.numel() for p in on_meta(third_stage_blocks=b).parameters()) for b in (6, 17, 23)}
    assert count == {6: 25_557_032, 17: 25_557_032 + 11 * 1_117_184, 23: 44_549_160}


def test_a_small_network_is_what_its_formula_says():
    torch.manual_seed(0)
    options = {"third_stage_blocks": 2, "third_stage_width_multiplier": 1.4, "num_classes": 5}
    net = ResNetImageNet(3, input_channels=2, **options).double().eval()
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                for values in (module.weight, module.running_var):
                    values.uniform_(0.5, 1.5)
                for values in (module.bias, module.running_mean):
                    values.normal_()
    p, x = net.state_dict(), torch.randn(2, 2, 43, 43, dtype=torch.float64)

    def conv(h, name, norm, **options):
        values = (p[f"{norm}.{k}"] for k in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(F.conv2d(h, p[f"{name}.weight"], **options), *values)

    h = F.max_pool2d(conv(x, "conv1", "bn1", stride=2, padding=3).relu(), 3, stride=2, padding=1)
    for stage, blocks in enumerate((3, 4, 2, 3), start=1):
        for block in range(blocks):
            b, stride = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            inner = conv(h, f"{b}.conv1", f"{b}.bn1").relu()
            inner = conv(inner, f"{b}.conv2", f"{b}.bn2", stride=stride, padding=1).relu()
            if block == 0:
                h = conv(h, f"{b}.shortcut.0", f"{b}.shortcut.1", stride=stride)
            h = (conv(inner, f"{b}.conv3", f"{b}.bn3") + h).relu()
    assert h.shape == (2, 96, 2, 2) and p["layer3.1.conv2.weight"].shape == (17, 17, 3, 3)
    torch.testing.assert_close(net(x), F.linear(h.mean((2, 3)), p["linear.weight"], p["linear.bias"]))


def test_a_stage_without_blocks_or_channels_is_refused():
    with pytest.raises(ValueError, match="third_stage_blocks must be ≥ 1, got 0"):
        on_meta(third_stage_blocks=0)
    with pytest.raises(
        ValueError, match=r"stages must have at least 1 channel each, got \[64, 128, 0, 512\] by .* 0.001"
    ):
        on_meta(third_stage_width_multiplier=0.001)


@pytest.mark.parametrize(
    ("change", "depth"),
    [
        ({}, 50),
        ({"third_stage_blocks": 17}, 83),
        ({"third_stage_width_multiplier": 2.8}, 50),
        ({"width": 7}, 50),
    ],
)
def test_a_spec_builds_the_network_that_it_describes(change, depth):
    spec = wsn.ResNetImageNetSpec(num_classes=11, input_channels=1, **change)
    assert spec.depth == depth and wsn.specs.from_dict(wsn.specs.to_dict(spec)) == spec
    with torch.device("meta"):
        built = wsn.build(spec)
    plain = on_meta(num_classes=11, input_channels=1, **change)
    assert {k: v.shape for k, v in built.state_dict().items()} == {
        k: v.shape for k, v in plain.state_dict().items()
    }
    assert sum(wsn.weights_per_layer(spec).values()) == wsn.num_weights(plain)


def test_a_spec_draws_from_its_seed_and_the_rule_it_names():
    small = wsn.ResNetImageNetSpec(width=2, third_stage_blocks=1, num_classes=3)
    one, again, other = (wsn.build(small, seed=seed).conv1.weight for seed in (0, 0, 1))
    assert torch.equal(one, again) and not torch.equal(one, other)
    default = wsn.build(replace(small, initialisation="default"), seed=0).conv1.weight
    assert default.abs().max() <= (3 * 49) ** -0.5 < one.abs().max()


def test_a_spec_can_be_widened_at_the_same_number_of_weights():
    base = wsn.ResNetImageNetSpec(
        width=3, third_stage_blocks=1, num_classes=5, third_stage_width_multiplier=1.5
    )
    wide = wsn.StaticSparsity(base, width=7)
    assert wsn.num_weights(wsn.build(wide)) == wsn.num_weights(wsn.build(base))
    assert wsn.build(wide).conv1.out_channels == 7 and wsn.build(wide).layer3[0].conv2.out_channels == 42


def test_a_spec_trains_on_a_small_imagenet(small_imagenet, monkeypatch):
    monkeypatch.setenv("WSN_WORKERS", "0")
    monkeypatch.setenv("WSN_DATA", str(small_imagenet.parent))
    net = wsn.ResNetImageNetSpec(width=2, third_stage_blocks=1, num_classes=3)
    run = wsn.Experiment(
        model=net,
        data=wsn.ImageNet(normalisation="imagenet", image_size=32),
        training=wsn.Training(epochs=1, batch_size=7, learning_rate=0.05),
    )
    record = wsn.run(run)
    assert record.status == "finished" and len(record.predictions) == 9
    with pytest.raises(
        ValueError, match="must have 3 input channels and 3 classes for ImageNet, got 3 and 1000"
    ):
        wsn.run(replace(run, model=replace(net, num_classes=1000)))
