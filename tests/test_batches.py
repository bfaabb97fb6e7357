"""Networks and batches as the field has them: loaders, generators, mappings, tokens, torchvision's models."""

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torchvision.models import convnext, swin_transformer, vision_transformer

import wsnlib as wsn
from wsnlib import representations


def normal(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def net(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(5, 7), nn.ReLU(inplace=True), nn.Linear(7, 3))


IMAGES = normal(1, 31, 5)
LABELS = torch.arange(31) % 3


def loader(images: torch.Tensor = IMAGES, labels: torch.Tensor = LABELS, **options) -> DataLoader:
    return DataLoader(TensorDataset(images, labels), batch_size=8, **options)


def by_hand(network: nn.Module, batches: list[torch.Tensor], **options) -> np.ndarray:
    """CKA of a sequential network from the outputs of its layers."""
    sums = wsn.similarity.MinibatchCKA([str(i) for i in range(len(network))])
    for batch in batches:
        sums.update({str(i): network[: i + 1](batch).detach() for i in range(len(network))})
    return sums.matrix().values


class Pair(NamedTuple):
    images: torch.Tensor
    labels: torch.Tensor


BATCHES = {
    "named tuples": lambda: [Pair(x, torch.zeros(len(x))) for x in IMAGES.split(8)],
    "a loader of pairs": loader,
    "a loader of tensors": lambda: DataLoader(IMAGES, batch_size=8),
    "a list of tensors": lambda: list(IMAGES.split(8)),
    "a generator": lambda: (x for x in IMAGES.split(8)),
    "tuples": lambda: [(x, "said", 7) for x in IMAGES.split(8)],
    "mappings": lambda: [{"input": x, "labels": torch.zeros(len(x)), "name": "x"} for x in IMAGES.split(8)],
}


@pytest.mark.parametrize("kind", BATCHES)
def test_batches_of_every_kind_give_the_sums_of_their_images(kind):
    found = wsn.cka_matrix(net(), BATCHES[kind]())
    assert found.rows == ("0", "1", "2")
    np.testing.assert_allclose(found.values, by_hand(net(), list(IMAGES.split(8))), atol=1e-6)


def test_prepare_turns_any_batch_into_what_the_network_takes():
    odd = [("said", {"x": 2 * x}) for x in IMAGES.split(8)]
    found = wsn.cka_matrix(net(), odd, prepare=lambda batch: batch[1]["x"] / 2)
    np.testing.assert_array_equal(found.values, wsn.cka_matrix(net(), list(IMAGES.split(8))).values)
    with pytest.raises(ValueError, match="a batch must be a tensor, a tuple .* got a str; give prepare"):
        wsn.cka_matrix(net(), odd)


def test_arrays_in_a_list_are_batches_as_those_of_a_generator():
    for batches in ([x.numpy() for x in IMAGES[:24].split(8)], (x.numpy() for x in IMAGES.split(8))):
        with pytest.raises(ValueError, match="a batch must be a tensor, .* got a ndarray; give prepare"):
            wsn.cka_matrix(net(), batches)


def test_a_shuffling_loader_is_gone_through_again_and_others_are_not():
    torch.manual_seed(0)
    shuffled = loader(shuffle=True)
    found = wsn.cka_matrix(net(), shuffled, passes=3)
    assert 0 < found.standard_errors[0, 2] < 0.5
    np.testing.assert_allclose(found.values, wsn.cka_matrix(net(), IMAGES, batch_size=31).values, atol=0.1)
    with pytest.raises(ValueError, match="batches must differ from pass to pass, got the first one again"):
        wsn.cka_matrix(net(), loader(), passes=2)
    with pytest.raises(ValueError, match="passes must be 1 for batches that can be gone through once, got 2"):
        wsn.cka_matrix(net(), iter(loader()), passes=2)
    with pytest.raises(ValueError, match="there must be one or more batches, got none"):
        wsn.cka_matrix(net(), [])


def test_a_last_batch_of_fewer_than_four_is_left_out_with_a_word():
    with pytest.warns(RuntimeWarning, match="a batch of 3 examples is left out: at least 4 are needed"):
        found = wsn.cka_matrix(net(), list(IMAGES[:19].split(8)))
    np.testing.assert_allclose(found.values, by_hand(net(), list(IMAGES[:16].split(8))), atol=1e-6)


def test_sums_of_many_batches_are_one_matrix():
    def batches():
        for seed in range(300):
            yield normal(seed, 4, 5)

    sums = representations.cka_sums(net(), batches())
    assert sums.num_batches == 300
    assert [tuple(each.shape) for each in sums.state()["sums"]] == [(3, 3)]


def test_several_networks_see_the_same_batches():
    both = {"one": net(0), "other": net(1)}
    torch.manual_seed(0)
    shuffled = wsn.cka_matrices(both, loader(shuffle=True))
    torch.manual_seed(0)
    ordered = list(loader(shuffle=True))
    np.testing.assert_array_equal(
        shuffled["one", "other"].values, wsn.cka_matrices(both, ordered)["one", "other"].values
    )


def test_networks_that_need_different_images_are_shown_the_same_examples():
    class Halved(nn.Module):
        def __init__(self):
            super().__init__()
            self.inside = net(1)

        def forward(self, x):
            return self.inside(x / 2)

    both = {"one": net(0), "other": Halved()}
    found = wsn.cka_matrices(both, {"one": loader(), "other": loader(2 * IMAGES)})
    same = wsn.cka_matrices({"one": net(0), "other": net(1)}, loader())
    np.testing.assert_allclose(found["one", "other"].values, same["one", "other"].values[:, :3], atol=1e-6)

    others = LABELS.roll(1)
    for wrong, message in (
        (loader(labels=others), "the same examples, got batches with different labels"),
        (list(IMAGES.split(8)), "must have labels by which examples are told, got none"),
        (list(loader())[:3], "the same examples, got fewer batches for one of them"),
    ):
        with pytest.raises(ValueError, match=message):
            wsn.cka_matrices(both, {"one": loader(), "other": wrong})
    with pytest.raises(ValueError, match="batches must be given for the networks one, other, got one"):
        wsn.cka_matrices(both, {"one": loader()})


@dataclass
class Output:
    loss: float
    hidden: torch.Tensor


class Tokens(nn.Module):
    """Maps each token, and gives a dataclass, as a language model does."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.map = nn.Linear(5, 7)
        self.out = Wrapped()

    def forward(self, input_embeds, attention_mask=None):
        return self.out(torch.tanh(self.map(input_embeds)))


class Wrapped(nn.Module):
    def forward(self, x):
        return Output(loss=0.0, hidden=2 * x)


def test_tokens_count_as_it_is_said():
    x, model = normal(4, 24, 6, 5), Tokens()
    hidden = torch.tanh(model.map(x)).detach()
    for tokens, counted in (("all", hidden), ("mean", hidden.mean(1)), ("first", hidden[:, 0])):
        found = wsn.cka_matrix(model, [{"input_embeds": x}], tokens=tokens)
        assert found.rows == ("map", "out")
        own = wsn.similarity.read_gram(2 * counted)
        linear = wsn.similarity.read_gram(
            {"all": lambda y: y, "mean": lambda y: y.mean(1), "first": lambda y: y[:, 0]}[tokens](
                model.map(x).detach()
            )
        )
        assert found.values[0, 1] == pytest.approx(float(own.vector @ linear.vector), abs=1e-5)
    with pytest.raises(ValueError, match="tokens must be one of 'all', 'mean', 'first', got 'last'"):
        wsn.cka_matrix(model, [{"input_embeds": x}], tokens="last")


def test_padding_does_not_count_in_the_mean_and_is_refused_where_all_tokens_count():
    x, model = normal(5, 24, 6, 5), Tokens()
    mask = torch.arange(6) < (torch.arange(24) % 5 + 2).unsqueeze(1)
    noise = torch.where(mask.unsqueeze(-1), 0, 100 * normal(6, 24, 6, 5))
    batch, padded = ([{"input_embeds": images, "attention_mask": mask.long()}] for images in (x, x + noise))
    found = wsn.cka_matrix(model, padded, tokens="mean")
    np.testing.assert_allclose(found.values, wsn.cka_matrix(model, batch, tokens="mean").values, atol=1e-6)
    assert abs(found.values[0, 1] - wsn.cka_matrix(model, x, tokens="mean").values[0, 1]) > 1e-4
    with pytest.raises(ValueError, match="tokens must be 'mean' or 'first' for sequences with an attention"):
        wsn.cka_matrix(model, batch)
    everywhere = [{"input_embeds": x, "attention_mask": torch.ones(24, 6)}]
    np.testing.assert_array_equal(
        wsn.cka_matrix(model, everywhere).values, wsn.cka_matrix(model, [{"input_embeds": x}]).values
    )


MODELS = {
    "ViT": partial(
        vision_transformer.VisionTransformer, image_size=16, patch_size=8, num_layers=2, num_heads=2,
        hidden_dim=8, mlp_dim=16, num_classes=3,
    ),
    "Swin": partial(
        swin_transformer.SwinTransformer, patch_size=[2, 2], embed_dim=8, depths=[1, 1], num_heads=[1, 1],
        window_size=[2, 2], num_classes=3,
    ),
    "ConvNeXt": partial(
        convnext.ConvNeXt, num_classes=3,
        block_setting=[convnext.CNBlockConfig(8, 16, 1), convnext.CNBlockConfig(16, None, 1)],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_networks_of_torchvision_are_read_through_a_loader(name):
    torch.manual_seed(0)
    model, images = MODELS[name](), normal(7, 20, 3, 16, 16)
    for parameter in model.parameters():
        nn.init.normal_(parameter)  # a head of zeros does not vary
    found = wsn.cka_matrix(model, loader(images, torch.arange(20)), tokens="mean")
    assert len(found.rows) > 8 and np.isfinite(found.values).all()
    np.testing.assert_array_equal(
        found.values, wsn.cka_matrix(model, list(images.split(8)), tokens="mean").values
    )
    head = found.rows[-1]
    outputs = wsn.similarity.read_gram(model.eval()(images[:8]).detach())
    seen = representations.read_representations(model, [images[:8]], layers=[head])[head]
    assert wsn.similarity.read_gram(seen).vector @ outputs.vector == pytest.approx(1, abs=1e-5)


def test_all_readers_take_a_loader():
    model = net()
    assert wsn.layer_names(model, loader()) == ["0", "1", "2"]
    read = representations.read_representations(model, loader())
    torch.testing.assert_close(read["2"], model(IMAGES).detach())


def test_layers_are_chosen_by_name_pattern_or_type():
    model = MODELS["ConvNeXt"]()
    images = normal(8, 9, 3, 16, 16)
    everything = wsn.layer_names(model, images)
    norms = wsn.layer_names(model, images, layers=[nn.LayerNorm])
    assert norms and set(norms) == {n for n in everything if isinstance(model.get_submodule(n), nn.LayerNorm)}
    blocks = wsn.layer_names(model, images, layers=["features.?.0", "features.3"])
    assert blocks == ["features.0.0", "features.1.0", "features.2.0", "features.3.0", "features.3"]
    found = wsn.cka_matrix(model, images, batch_size=9, passes=1, layers=["classifier.*", nn.GELU])
    assert {type(model.get_submodule(n)).__name__ for n in found.rows} == {
        "GELU",
        "LayerNorm2d",
        "Flatten",
        "Linear",
    }
    with pytest.raises(ValueError, match="layers must be of types that the ConvNeXt has, got LSTM"):
        wsn.layer_names(model, images, layers=[nn.LSTM])
    with pytest.raises(
        ValueError, match=r"'classifer.\*' is not a layer of the ConvNeXt; did you mean classifier"
    ):
        wsn.layer_names(model, images, layers=["classifer.*"])


def test_every_call_of_a_module_counts_where_its_type_is_asked_for():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.map, self.relu = nn.Linear(5, 5), nn.ReLU()

        def forward(self, x):
            return self.relu(self.map(self.relu(x)))

    assert wsn.layer_names(Twice(), IMAGES, layers=[nn.ReLU]) == ["relu", "relu:2"]
    assert wsn.layer_names(Twice(), IMAGES, layers=["rel?"]) == ["relu", "relu:2"]
    assert wsn.layer_names(Twice(), IMAGES, layers=["relu:2", "map"]) == ["map", "relu:2"]
