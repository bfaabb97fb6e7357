"""Linear probes: the minimum, the choice of strength, invariances, the layers around additions, errors."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression
from torch import nn

import wsnlib as wsn
from wsnlib import data as data_module
from wsnlib import probes
from wsnlib.models import MLP, ResNetCifar

CLASSES = 3


def examples(seed: int, n: int, p: int = 7, noise: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % CLASSES
    centres = torch.randn(CLASSES, p, generator=torch.Generator().manual_seed(99), dtype=torch.float64)
    return centres[labels] + noise * torch.randn(n, p, generator=generator, dtype=torch.float64), labels


def splits(n: int = 60, p: int = 7, noise: float = 1.0):
    return [examples(seed, n, p, noise) for seed in (0, 1, 2)]


@pytest.mark.parametrize("strength", [1.0, 0.01, 1e-4])
@pytest.mark.parametrize(("n", "p"), [(60, 7), (60, 1), (23, 101)])
def test_the_minimum_is_the_minimum(monkeypatch, n, p, strength):
    fitted = []

    class Noted(LogisticRegression):
        def fit(self, x, y):
            fitted.append((super().fit(x, y), x))
            return self

    monkeypatch.setattr("sklearn.linear_model.LogisticRegression", Noted)
    given = [examples(seed, n, p) for seed in (0, 1, 2)]
    wsn.probes.fit_probe(*given, strengths=[strength])
    [(model, x)] = fitted
    weights = torch.tensor(model.coef_.T, requires_grad=True)
    bias = torch.tensor(model.intercept_, requires_grad=True)
    loss = F.cross_entropy(torch.from_numpy(x) @ weights + bias, given[0][1])
    (loss + strength / 2 * weights.square().sum()).backward()
    assert max(weights.grad.abs().max(), bias.grad.abs().max()) < 1e-6


@pytest.mark.parametrize(("n", "p"), [(60, 7), (60, 1), (23, 101)])
def test_the_mean_variance_along_principal_axes_is_1(n, p):
    x = examples(0, n, p)[0]
    scaled, other = probes._centred_and_scaled([1e3 * x + 5, 1e3 * examples(1, 11, p)[0] + 5])
    variances = np.linalg.svd(scaled, compute_uv=False) ** 2 / n
    assert variances[: min(p, n - 1)].mean() == pytest.approx(1, rel=1e-9)
    assert np.abs(scaled.mean(0)).max() < 1e-12
    ratio = scaled / (x - x.mean(0)).numpy()
    np.testing.assert_allclose(ratio, ratio[0, 0], rtol=1e-6)
    np.testing.assert_allclose(other, ratio[0, 0] * (examples(1, 11, p)[0] - x.mean(0)).numpy(), rtol=1e-6)


def test_the_strength_is_chosen_on_validation_and_reported_on_test():
    train, validation, test = splits(noise=2.0)
    found = wsn.probes.fit_probe(train, validation, test)
    alone = [wsn.probes.fit_probe(train, validation, test, strengths=[s]) for s in probes.STRENGTHS]
    best = max(alone, key=lambda probe: (probe.validation_accuracy, probe.strength))
    assert found.strength == best.strength
    assert found.validation_accuracy == best.validation_accuracy
    assert found.test_accuracy == best.test_accuracy and found.train_accuracy == best.train_accuracy
    assert len({probe.validation_accuracy for probe in alone}) > 1
    swapped = wsn.probes.fit_probe(train, test, validation)
    assert swapped.validation_accuracy == max(p.test_accuracy for p in alone)
    again = wsn.probes.fit_probe(train, validation, test, strengths=probes.STRENGTHS[::-1])
    assert again.strength == found.strength


def test_a_strong_penalty_leaves_the_most_frequent_class_and_a_weak_one_fits():
    labels = torch.tensor([0, 0, 1, 2]).repeat(15)
    given = [(examples(seed, 60, 25)[0], labels) for seed in (0, 1, 2)]
    strong, weak = (wsn.probes.fit_probe(*given, strengths=[strength]) for strength in (1e6, 1e-5))
    assert strong.train_accuracy == strong.test_accuracy == 0.5
    assert weak.train_accuracy > 0.7


def test_accuracies_are_right():
    train, validation, test = splits(noise=0.01)
    shuffled = (test[0], (test[1] + 1) % CLASSES)
    found = wsn.probes.fit_probe(train, validation, shuffled)
    assert (found.train_accuracy, found.validation_accuracy, found.test_accuracy) == (1, 1, 0)
    assert found.strength == max(probes.STRENGTHS)
    assert found.features == 7


def test_a_probe_is_invariant_to_what_cka_is():
    given = splits(noise=1.5)
    found = wsn.probes.fit_probe(*given)
    rotation = torch.linalg.qr(
        torch.randn(7, 7, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    )[0]
    other = wsn.probes.fit_probe(*[(1e4 * x @ rotation - 30, y) for x, y in given])
    assert other == found


def test_a_class_missing_in_training_and_a_constant_layer():
    train, validation, test = splits()
    few = train[1] < 2
    found = wsn.probes.fit_probe((train[0][few], train[1][few]), validation, test)
    assert found.test_accuracy <= 2 / 3
    constant = [(torch.ones(len(x), 4), y) for x, y in (train, validation, test)]
    assert wsn.probes.fit_probe(*constant).test_accuracy == pytest.approx(1 / 3, abs=1e-9)


# -- of a network --


def small_data(n: int = 48, size: int = 8) -> data_module.Dataset:
    generator = torch.Generator().manual_seed(0)

    def split(n: int) -> data_module.Split:
        labels = torch.arange(n) % CLASSES
        images = torch.randint(0, 128, (n, 3, size, size), generator=generator)
        images += 100 * F.one_hot(labels, CLASSES)[:, :, None, None]
        return data_module.Split(images.to(torch.uint8), labels)

    return data_module.Dataset(
        train=split(n),
        validation=split(n // 2),
        test=split(n // 2 + 3),
        classes=tuple("abc"),
        mean=torch.tensor([0.4, 0.5, 0.6]),
        std=torch.tensor([0.2, 0.3, 0.25]),
    )


def test_layers_around_additions_are_probed_in_order():
    torch.manual_seed(0)
    net, data = ResNetCifar(8, width_multiplier=0.25, num_classes=CLASSES), small_data()
    found = wsn.probes.linear_probes(net, data)
    assert list(found) == [f"stage{s}.block1.{layer}" for s in (1, 2, 3) for layer in ("norm2", "add")]
    assert [probe.features for probe in found.values()] == [4 * c for c in (4, 4, 8, 8, 16, 16)]
    for name, probe in found.items():
        x = []
        for split in (data.train, data.validation, data.test):
            outputs = wsn.representations.read_representations(
                net, data.normalise(split.images), layers=[name]
            )[name]
            x.append((F.avg_pool2d(outputs, outputs.shape[-1] // 2), split.labels))
        assert wsn.probes.fit_probe(*x) == probe
    assert found["stage1.block1.add"].test_accuracy > 0.9
    assert not net.stage1.block1.norm2._forward_hooks and net.training


def test_all_features_may_be_kept_and_layers_named():
    torch.manual_seed(0)
    net, data = ResNetCifar(8, width_multiplier=0.25, num_classes=CLASSES), small_data()
    found = wsn.probes.linear_probes(
        net, data, layers=["stage2", "dense", "conv"], pool=None, strengths=[0.1]
    )
    assert {name: probe.features for name, probe in found.items()} == {"conv": 256, "stage2": 128, "dense": 3}
    assert {probe.strength for probe in found.values()} == {0.1}
    once = wsn.probes.linear_probes(net, data, layers=["conv", "dense"], pool=1, strengths=[0.1])
    assert [probe.features for probe in once.values()] == [4, 3]


def test_additions_are_found_by_name():
    with torch.device("meta"):
        net = ResNetCifar(20)
    assert len(wsn.probes.around_additions(net)) == 18
    with pytest.raises(ValueError, match="blocks with norm2 and add, got none in a MLP; give layers"):
        wsn.probes.around_additions(MLP(7))


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (
            lambda: wsn.probes.fit_probe(*splits(), strengths=[]),
            r"strengths must be one or more numbers > 0, got \(\)",
        ),
        (
            lambda: wsn.probes.fit_probe(*splits(), strengths=[1, 0]),
            r"strengths must be one or more numbers > 0, got \(1, 0\)",
        ),
        (
            lambda: wsn.probes.fit_probe(splits()[0], (torch.ones(3, 7), torch.ones(4)), splits()[2]),
            "of the validation split must be as many, at least 1, got 3 and 4",
        ),
        (
            lambda: wsn.probes.fit_probe(*splits()[:2], (torch.ones(0, 7), torch.ones(0))),
            "of the test split must be as many, at least 1, got 0 and 0",
        ),
        (
            lambda: wsn.probes.linear_probes(ResNetCifar(8), small_data(), pool=0),
            "pool must be ≥ 1 or None, got 0",
        ),
        (
            lambda: wsn.probes.linear_probes(nn.Linear(2, 2), small_data()),
            "blocks with norm2 and add, got none in a Linear",
        ),
        (
            lambda: wsn.probes.linear_probes(
                ResNetCifar(8), replace(small_data(), validation=small_data(0).train)
            ),
            "must have validation images to choose the strength on",
        ),
        (
            lambda: wsn.probes.linear_probes(ResNetCifar(8), small_data(), layers=["stage1.block1.ad"]),
            "is not a layer of the ResNetCifar; did you mean stage1.block1.add",
        ),
    ],
)
def test_what_cannot_be_probed_is_refused(act, message):
    with pytest.raises(ValueError, match=message):
        act()
