"""Chapter parameters: one sentence for each mistake, in the library and through papermill."""

import re
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
import yaml

import wsnlib as wsn
from wsnlib import book
from wsnlib.book import (
    bottlenecks,
    cka_blocks,
    gp_kernel,
    later_work,
    resnet_sweep,
    sparse_mlp,
    your_layers,
    your_network,
)

ROOT = Path(__file__).parent.parent
EVERY_FILE = sorted((ROOT / "params").glob("*.yml"))
FILES = sorted((ROOT / "params").glob("sparse_mlp.*.yml"))


@pytest.mark.parametrize("file", EVERY_FILE, ids=lambda f: f.stem)
def test_a_parameter_file_means_the_same_on_its_page_and_alone(file):
    """What a file leaves out is the page's own value for papermill, and the class's for a script."""
    chapter = file.stem.split(".")[0]
    cells = nbformat.read(ROOT / "book" / f"{chapter}.ipynb", 4).cells
    (published,) = (c.source for c in cells if "parameters" in c.metadata.get("tags", []))
    exec(published, page := {})
    read, given = book.chapter_module(chapter).Parameters.read, yaml.safe_load(file.read_text())
    assert read(page | given) == read(given)


def test_the_profile_gpu_trains_on_a_gpu():
    texts = [file.read_text() for file in EVERY_FILE if file.stem.endswith(".gpu")]
    trained = [yaml.safe_load(text) for text in texts if "Nothing is trained." not in text]
    assert len(trained) > 5 and {values.get("device") for values in trained} == {"cuda"}


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
def test_every_parameter_file_is_valid(file):
    values = yaml.safe_load(file.read_text())
    parameters = sparse_mlp.Parameters.read(values)
    assert parameters.profile == file.stem.split(".")[1]
    assert parameters.training.report == "best_test"
    assert [f.stem for f in FILES] == [f"sparse_mlp.{p}" for p in ("cpu", "gpu", "paper", "smoke")]


def test_the_paper_profile_is_the_papers_protocol():
    p = sparse_mlp.Parameters.read(yaml.safe_load((ROOT / "params" / "sparse_mlp.paper.yml").read_text()))
    assert p.full_protocol
    assert p.same_data
    assert p.training == wsn.Training(epochs=300, batch_size=100, learning_rate=0.1, report="best_test")
    assert p.data_spec == wsn.MNIST()
    smaller = sparse_mlp.Parameters.read({"data": "digits", "epochs": 25})
    assert not smaller.full_protocol
    assert not smaller.same_data


@pytest.mark.parametrize(
    ("change", "whole", "same"),
    [
        ({"epochs": 301}, True, True),
        ({"epochs": 299}, False, True),
        ({"batch_size": 101}, False, True),
        ({"learning_rate": 0.2}, False, True),
        ({"base_width": 7, "widths": [7]}, True, False),
        ({"data": "fashion_mnist"}, True, False),
    ],
    ids=str,
)
def test_another_protocol_or_other_data_are_not_the_papers(change, whole, same):
    p = sparse_mlp.Parameters.read({"data": "mnist", "epochs": 300} | change)
    assert (p.full_protocol, p.same_data) == (whole, same)


def test_every_number_of_the_protocol_is_passed_on():
    p = sparse_mlp.Parameters.read({"epochs": 7, "batch_size": 13, "learning_rate": 0.3})
    assert p.training == wsn.Training(epochs=7, batch_size=13, learning_rate=0.3, report="best_test")


MISTAKES = [
    ({"epoch": 5}, "'epoch' is not a parameter of this chapter; did you mean 'epochs'?"),
    ({"zzz": 5}, "'zzz' is not a parameter of this chapter; the parameters are profile, preset, data"),
    (
        {"learning_rate": "1e-3"},
        "learning_rate must be a number > 0, got '1e-3'; in YAML write `learning_rate: 0.001`, in Python",
    ),
    ({"learning_rate": 0.0}, "learning_rate must be a number > 0, got 0.0"),
    ({"learning_rate": float("inf")}, "learning_rate must be a number > 0, got inf"),
    ({"epochs": 2.5}, "epochs must be an integer ≥ 1, got 2.5"),
    ({"epochs": True}, "epochs must be an integer ≥ 1, got True"),
    ({"widths": [5, 0]}, "widths[1] must be a list of integers of at least the base width, got 0"),
    (
        {"widths": 5},
        "widths must be a list of integers of at least the base width, got 5; in YAML write `widths: [5]`",
    ),
    ({"widths": [10]}, "widths must be a list that holds the base width 5, got [10]"),
    ({"widths": [5, 3]}, "widths must be integers of at least the base width 5, got 3"),
    (
        {"last_layer_densities": [1.0, 1.5]},
        "last_layer_densities[1] must be a list of numbers > 0 and ≤ 1",
    ),
    ({"last_layer_densities": [0.5]}, "last_layer_densities must be a list that holds 1.0, got [0.5]"),
    ({"activations": ["tanh"]}, "activations[0] must be a list of 'relu' and 'linear', got 'tanh'"),
    ({"preset": "clean"}, "validation_size must be ≥ 1 with preset 'clean', got 0"),
    (
        {"data": "cifar"},
        "data must be one of 'digits', 'mnist', 'fashion_mnist', 'cifar10', 'cifar100', 'svhn'",
    ),
    ({"seeds": []}, "seeds must be a list of integers ≥ 0, got []"),
    ({"seeds": [0, -1]}, "seeds[1] must be a list of integers ≥ 0, got -1"),
    ({"last_layer_densities": [1.0, 0.0]}, "last_layer_densities[1] must be a list of numbers > 0"),
    ({"budget_minutes": -1.0}, "budget_minutes must be a number of minutes ≥ 0, got -1.0"),
]


@pytest.mark.parametrize(("values", "message"), MISTAKES, ids=lambda v: str(v)[:30])
def test_mistakes_are_named_in_one_sentence(values, message):
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        sparse_mlp.Parameters.read(values)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_a_notebook_s_own_variables_are_not_parameters():
    namespace = {"In": [], "Out": {}, "_": 3, "wsn": wsn, "epochs": 7}
    first = sparse_mlp.Parameters.read(namespace)
    again = sparse_mlp.Parameters.read(namespace | {"p": first, "rules": [1], "epochs": 8})
    assert (first.epochs, again.epochs) == (7, 8)


def test_the_clean_preset_chooses_on_validation_images():
    p = sparse_mlp.Parameters.read({"preset": "clean", "validation_size": 100})
    assert p.data_spec == wsn.Digits(validation_size=100)
    assert p.training.report == "best_validation"
    packed = {"data": "mine", "data_sha256": "a" * 64, "validation_size": 100}
    p = sparse_mlp.Parameters.read(packed | {"preset": "clean"})
    assert p.data_spec == wsn.PackedData(name="mine", sha256="a" * 64, validation_size=100)
    p = sparse_mlp.Parameters.read(packed | {"preset": "faithful"})
    assert p.data_spec == wsn.PackedData(name="mine", sha256="a" * 64)
    assert sparse_mlp.Parameters.read({"data": "fashion_mnist"}).data_spec == wsn.FashionMNIST()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("learning_rate", "'1e-3'", "learning_rate must be a number > 0, got '1e-3'; in YAML write"),
        ("epoch", "5", "'epoch' is not a parameter of this chapter; did you mean 'epochs'?"),
    ],
)
def test_papermill_stops_with_the_same_sentence_before_any_work(name, value, message, tmp_path):
    papermill = str(Path(sys.executable).with_name("papermill"))
    command = [
        papermill,
        "book/sparse_mlp.ipynb",
        str(tmp_path / "out.ipynb"),
        "-f",
        "params/sparse_mlp.smoke.yml",
    ]
    done = subprocess.run(
        [*command, "-y", f"{name}: {value}"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert f"ValueError: {message}" in done.stderr
    assert "Executing:   7" not in done.stderr


def test_the_kernel_s_parameters_are_its_protocol():
    p = gp_kernel.Parameters.read(
        {"data": "mnist", "train_size": 2048, "validation_size": 512, "preset": "clean", "epochs": 300}
    )
    assert p.data_spec == wsn.MNIST(train_size=2048, validation_size=512)
    pixelwise = p.model_copy(update={"normalisation": "pixelwise"})
    assert pixelwise.data_spec == wsn.MNIST(train_size=2048, validation_size=512, normalisation="pixelwise")
    assert p.training(3.0) == wsn.Training(
        epochs=300, batch_size=256, learning_rate=3.0, report="best_validation"
    )
    assert (p.same_data, p.full_protocol) == (True, False)
    assert p.model_copy(update={"seeds": list(range(10))}).full_protocol
    assert not p.model_copy(update={"train_size": 1000}).same_data
    faithful = gp_kernel.Parameters.read({"train_size": 700, "validation_size": 5})
    assert faithful.data_spec == wsn.Digits(train_size=700)
    assert faithful.training(1.0).report == "best_test"


def test_of_equally_good_learning_rates_the_least_is_trained(monkeypatch):
    accuracy = {
        0.5: [0.3, 0.2, 0.1],
        1.0: [0.1, 0.2, 0.3],
        2.0: [0.2, 0.2, 0.1],
    }  # two means differ by rounding
    p = gp_kernel.Parameters(learning_rates=list(accuracy), tuning_seeds=[0, 1, 2], widths=[8, 16])
    plan = gp_kernel.Runs(p)
    rows = [
        {"training.learning_rate": rate, "test_accuracy": accuracy[rate][s]} for _, rate, s in plan.tuning
    ]
    monkeypatch.setattr(gp_kernel.sweeps, "table", lambda runs, store: pd.DataFrame(rows))
    assert set(plan.rates(None).values()) == {0.5}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"widths": [16, 32]}, r"widths must be a list that holds the base width 8, got \[16, 32\]"),
        ({"widths": [8, 4]}, "widths must be integers of at least the base width 8, got 4"),
        (
            {"learning_rates": ["1e-3"]},
            r"learning_rates must be a list of numbers > 0, got \['1e-3'\]; in YAML write",
        ),
        ({"num_pairs": 1}, "num_pairs must be an integer ≥ 2, got 1"),
        ({"preset": "clean"}, "validation_size must be ≥ 1 with preset 'clean', got 0"),
    ],
)
def test_mistakes_in_the_kernel_s_parameters_are_named(given, message):
    with pytest.raises(ValueError, match=message):
        gp_kernel.Parameters.read(given)


RESNET_CHAPTERS = {"bottlenecks": bottlenecks.Parameters, "resnet_sweep": resnet_sweep.Parameters}
RESNET_FILES = [f for chapter in RESNET_CHAPTERS for f in sorted((ROOT / "params").glob(f"{chapter}.*.yml"))]


@pytest.mark.parametrize("file", RESNET_FILES, ids=lambda f: f.stem)
def test_every_parameter_file_of_the_resnet_chapters_is_valid(file):
    chapter, profile = file.stem.split(".")
    p = RESNET_CHAPTERS[chapter].read(yaml.safe_load(file.read_text()))
    assert p.profile == profile
    assert p.full_protocol == (profile == "paper")
    assert p.same_data == (profile != "smoke")
    for base_width in p.base_widths:
        assert p.widths(base_width)[0] == base_width
        assert len(p.widths(base_width)) > 1


def test_the_paper_profile_of_the_resnet_chapters_is_the_papers_protocol():
    p = resnet_sweep.Parameters.read(yaml.safe_load((ROOT / "params" / "resnet_sweep.paper.yml").read_text()))
    assert p.training == wsn.Training(
        epochs=300,
        batch_size=128,
        learning_rate=0.1,
        momentum=0.9,
        weight_decay=5e-4,
        schedule=wsn.MultiStep(milestones=(50 / 300, 120 / 300, 200 / 300)),
        augmentation=wsn.CropAndFlip(),
        report="best_test",
    )
    assert p.data_specs == {
        "cifar10": wsn.CIFAR10(normalisation="imagenet"),
        "cifar100": wsn.CIFAR100(normalisation="imagenet"),
        "svhn": wsn.SVHN(normalisation="imagenet"),
    }
    assert p.base_widths == [8, 12, 18, 40, 64]
    assert p.widths(8) == [8, 12, 18, 27, 40, 60, 91]
    assert p.imagenet_widths == list(book.printed_table("G21", "Table 1").index)
    large = p.imagenet_training
    assert (large.epochs, large.weight_decay, large.schedule) == (150, 1e-4, wsn.Cosine())
    assert large.augmentation == wsn.ResizedCropAndFlip(scale=(0.2, 1.0))


def test_widths_stop_at_the_largest_and_the_clean_preset_sets_images_aside():
    values = {"data": "cifar10", "preset": "clean", "validation_size": 100, "train_size": 900}
    families = {"base_widths": [8, 12], "widening_factors": [1.0, 1.5, 4.0], "largest_width": 32}
    p = resnet_sweep.Parameters.read(values | families)
    assert (p.widths(8), p.widths(12)) == ([8, 12, 32], [12, 18])
    assert p.data_specs == {"cifar10": wsn.CIFAR10(train_size=900, validation_size=100)}
    assert p.training.report == "best_validation"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"widening_factors": [2.0, 3.0]}, "widening_factors must be a list that holds 1.0"),
        (
            {"widening_factors": [1.0, 0.5]},
            "widening_factors[1] must be a list of 2 or more numbers ≥ 1, got 0.5",
        ),
        ({"largest_width": 7}, "largest_width must be ≥ the greatest base width 8"),
        ({"schedule": "step"}, "schedule must be 'multi_step', 'cosine' or 'one_cycle', got 'step'"),
        ({"more_data": ["cifar"]}, "data must be one of 'digits', 'mnist'"),
        ({"imagenet_widths": [90, 64]}, "imagenet_widths must be widths of at least the first"),
        ({"imagenet_folder": "pets"}, "imagenet_folder and imagenet_sha256 must both be given, or both null"),
        ({"channel_factors": [2.0]}, "channel_base_widths and channel_factors must both be lists of numbers"),
        (
            {"channel_base_widths": [8], "channel_factors": [1.5, 2.0]},
            "channel_factors must be some of widening_factors [1.0, 2.0], up to largest_width, got [1.5, 2.0]",
        ),
        (
            {"learning_rates": [0.2]},
            "learning_rates must be a list that holds learning_rate 0.1, or [], got [0.2]",
        ),
        (
            {"learning_rates": [0.1]},
            "preset must be 'clean' where learning_rates are chosen on validation images",
        ),
        (
            {"learning_rates": [0.1], "rate_seed": 0, "preset": "clean", "validation_size": 9},
            "rate_seed must be none of the seeds [0], got 0",
        ),
        (
            {"learning_rate": "1e-1"},
            "learning_rate must be a number > 0, got '1e-1'; in YAML write `learning_rate: 0.1`",
        ),
    ],
    ids=str,
)
def test_mistakes_in_the_resnet_chapters_are_named_in_one_sentence(values, message):
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        resnet_sweep.Parameters.read(values)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("chapter", "values", "message"),
    [
        (sparse_mlp, {"seeds": [0, 0]}, "seeds must hold no value twice, got [0, 0]; name each once"),
        (sparse_mlp, {"widths": [5, 80, 80]}, "widths must hold no value twice, got [5, 80, 80]"),
        (later_work, {"learning_rates": [0.1, 0.1, 0.2]}, "learning_rates must hold no value twice"),
        (later_work, {"split_base_widths": [5, 5]}, "split_base_widths must hold no value twice"),
        (later_work, {"split_base_widths": [6, 3]}, "split_base_widths must be a rising list of 2 or more"),
        (later_work, {"preset": "faithful"}, "preset must be 'clean': validation images choose epochs"),
        (your_layers, {"networks": ["resnet18", "resnet18"]}, "networks must hold no value twice"),
        (your_layers, {"size": 448}, "size must be the height and width of a patch in pixels, 32 to 427"),
    ],
    ids=str,
)
def test_what_would_fail_after_training_is_refused_before(chapter, values, message):
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        chapter.Parameters.read(values)
    assert str(caught.value).startswith(message)


YOURS = sorted((ROOT / "params").glob("your_network.*.yml"))


@pytest.mark.parametrize("file", YOURS, ids=lambda f: f.stem)
def test_every_parameter_file_of_your_network_is_valid(file):
    p = your_network.Parameters.read(yaml.safe_load(file.read_text()))
    assert p.profile == file.stem.split(".")[1]
    assert p.training.report == "last"
    assert p.training.evaluate_every == p.epochs
    assert wsn.is_reachable(
        wsn.CustomSparsity(*(p.network(w, num_classes=10) for w in (p.base_width, p.widths[-1])))
    )
    assert len(YOURS) == 4


def test_a_network_and_data_of_ones_own_are_its_parameters():
    p = your_network.Parameters.read(
        {
            "factory": "my_networks.Net", "width_option": "channels", "classes_option": "classes",
            "options": {"kernel": [3, 3]}, "widths": [8, 16.0, 32], "data": "photos", "data_sha256": "b" * 64,
            "train_size": 70, "epochs": 7, "batch_size": 13, "learning_rate": 0.3, "weight_decay": 0.2,
            "schedule": "cosine", "augmentation": True, "precision": "bfloat16",
        }
    )  # fmt: skip
    assert p.base_width == 8
    assert p.network(16.0, num_classes=3) == wsn.CustomSpec(
        "my_networks.Net", options={"channels": 16, "classes": 3, "kernel": (3, 3)}
    )
    assert p.data_spec == wsn.PackedData(name="photos", sha256="b" * 64, train_size=70)
    assert p.training == wsn.Training(
        epochs=7, batch_size=13, learning_rate=0.3, momentum=0.9, weight_decay=0.2, schedule=wsn.Cosine(),
        augmentation=wsn.CropAndFlip(), precision="bfloat16", evaluate_every=7,
    )  # fmt: skip
    default = your_network.Parameters.read({})
    assert (default.training.schedule, default.training.augmentation) == (wsn.OneCycle(), None)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"widths": [0.5]}, "widths must be a rising list of 2 or more numbers > 0, got [0.5]"),
        ({"widths": [1.0, 0.5]}, "widths must be a rising list of 2 or more numbers > 0, got"),
        ({"widths": [0.5, 0.5]}, "widths must be a rising list of 2 or more numbers > 0, got"),
        ({"widths": [0.0, 0.5]}, "widths[0] must be a rising list of 2 or more numbers > 0, got"),
        ({"factory": "Net"}, "CustomSpec.factory must be the name of a function or class with its module"),
        (
            {"options": {"width_mult": 2}},
            "options must be other than what the chapter sets, got 'width_mult'",
        ),
        (
            {"options": {"num_classes": 2}},
            "options must be other than what the chapter sets, got 'num_classes'",
        ),
        ({"options": {"f": [[1]]}}, "CustomSpec.options['f'] must be a finite number"),
        ({"options": 5}, "options must be a mapping of further options to plain values, got 5"),
        ({"data": "photos", "data_sha256": None}, "data must be one of 'digits'"),
        ({"schedule": "step"}, "schedule must be 'cosine' or 'one_cycle', got 'step'"),
        ({"preset": "clean"}, "validation_size must be ≥ 1 with preset 'clean', got 0"),
    ],
    ids=str,
)
def test_mistakes_in_the_parameters_of_your_network_are_named(given, message):
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        your_network.Parameters.read(given)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


CKA_FILES = sorted((ROOT / "params").glob("cka_blocks.*.yml"))


@pytest.mark.parametrize("file", CKA_FILES, ids=lambda f: f.stem)
def test_every_parameter_file_of_the_block_structure_is_valid(file):
    p = cka_blocks.Parameters.read(yaml.safe_load(file.read_text()))
    assert p.profile == file.stem.split(".")[1]
    assert p.full_protocol == (p.profile == "paper")
    assert p.same_data == (p.profile != "smoke")
    assert len(CKA_FILES) == 4


@pytest.mark.parametrize("file", sorted((ROOT / "params/planned").glob("*.yml")), ids=lambda f: f.stem)
def test_a_planned_file_is_read_as_that_of_the_page(file):
    p = book.read_parameters(file)
    assert (p.chapter, p.profile) == tuple(file.stem.split("."))


def test_the_paper_profile_of_the_block_structure_is_the_papers_protocol():
    p = cka_blocks.Parameters.read(yaml.safe_load((ROOT / "params" / "cka_blocks.paper.yml").read_text()))
    networks = {network.name: network for network in p.networks}
    assert p.experiment(networks["width 8"], 7) == wsn.Experiment(
        model=wsn.ResNetCifarSpec(depth=38, width_multiplier=8, norm_momentum=0.01),
        data=wsn.CIFAR10(train_size=45_000, validation_size=5_000, normalisation="unit"),
        training=wsn.Training(
            epochs=300,
            batch_size=128,
            learning_rate=0.01,
            momentum=0.9,
            weight_decay=2e-4,
            weight_decay_on="weights",
            schedule=wsn.Cosine(),
            augmentation=wsn.CropAndFlip(padding_mode="reflect"),
            evaluate_every=300,
        ),
        seed=7,
    )
    part = p.experiment(networks["depth 164 on a sixteenth"], 0)
    assert (part.model.depth, part.data.train_size, part.data.validation_size) == (164, 3125, 5_000)
    assert part.training == p.experiment(networks["width 8"], 7).training
    plain = p.experiment(networks["plain 10"], 0).model
    assert (plain.residual, plain.width_multiplier) == (False, 10)
    shorter = [network.model_copy(update={"epochs": 299}) for network in p.networks[:1]]
    for change in (
        {"networks": [*shorter, *p.networks[1:]]},
        {"batch_size": 64},
        {"learning_rate": 0.1},
        {"weight_decay": 1e-4},
        {"augmentation": False},
    ):
        assert not p.model_copy(update=change).full_protocol
    assert p.model_copy(update={"data": "cifar100"}).same_data
    assert not p.model_copy(update={"data": "svhn"}).same_data


def test_the_profile_of_the_page_trains_on_a_sixteenth_of_the_images_seed_by_seed():
    p = book.read_parameters(ROOT / "params" / "cka_blocks.cpu.yml")
    first = next(cka_blocks.stages(p, None))
    assert [run.experiment.model for run in first] == [wsn.ResNetCifarSpec(depth=56, norm_momentum=0.01)] * 3
    assert [run.experiment.seed for run in first] == [0, 1, 2]
    for run in first:
        images, training = run.experiment.data, run.experiment.training
        assert (images.train_size, images.validation_size, images.normalisation) == (3125, 500, "unit")
        assert (training.epochs, training.batch_size, training.learning_rate) == (100, 128, 0.01)
        assert (training.weight_decay_on, training.weight_decay) == ("weights", 2e-4)
        assert (training.precision, training.report, training.evaluate_every) == ("bfloat16", "last", 100)
        assert run.epochs == (0, 5, 20, 50)
    assert p.model_copy(update={"augmentation": False}).experiment(p.networks[0], 0).training.augmentation is None  # fmt: skip


def test_parts_are_of_the_images_less_what_is_set_aside():
    p = cka_blocks.Parameters.read({"images": 1000, "validation_size": 60})
    assert [p.data_spec(part=part).train_size for part in (1, 2, 3, 16)] == [940, 500, 333, 62]
    assert p.data_spec() == wsn.Digits(train_size=940, validation_size=60, normalisation="unit")
    faithful = cka_blocks.Parameters.read({"preset": "faithful", "validation_size": 60})
    assert faithful.data_spec().validation_size == 60
    assert faithful.experiment(faithful.networks[0], 3).data == faithful.data_spec(part=2)


DEEP = {"name": "deep", "depth": 14, "epochs": 10, "seeds": [0, 1]}
WIDE = DEEP | {"name": "wide", "width_multiplier": 2.0}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"compared": [{"networks": ["wide"], "seeds": [0, 1]}]},
            "compared must be of networks and seeds that are trained, got 'wide' and seed 0",
        ),
        (
            {"compared": [{"networks": ["deep"], "seeds": [0, 5]}]},
            "compared must be of networks and seeds that are trained, got 'deep' and seed 5",
        ),
        (
            {"compared": [{"networks": ["deep"], "seeds": [1]}]},
            r"compared must be of two different networks or more, got \(\('deep', 1\),\)",
        ),
        (
            {"compared": [{"networks": ["deep"], "seeds": [0, 0]}]},
            r"compared must be of two different networks or more, got \(\('deep', 0\), \('deep', 0\)\)",
        ),
        ({"compared": [{"networks": [], "seeds": [0]}]}, r"compared\[0\] must be a list of comparisons with"),
        ({"compared": []}, r"compared must be a list of comparisons with networks and seeds, got \[\]"),
        (
            {"networks": [DEEP, DEEP | {"depth": 20, "seeds": [5]}]},
            "a name must mean one network, got two for 'deep'",
        ),
        (
            {"networks": [DEEP, DEEP | {"epochs": 20, "seeds": [5]}]},
            "a name must mean one network, got two for 'deep'",
        ),
        (
            {"networks": []},
            r"networks must be a list of networks with name, depth, epochs and seeds, got \[\]",
        ),
        ({"networks": [{"name": "x"}]}, r"networks\[0\] must be a list of networks with name, depth, epochs"),
        ({"networks": [DEEP | {"name": ""}]}, r"networks\[0\] must be a list of networks with .*, got ''"),
        ({"networks": [DEEP | {"seeds": []}]}, r"networks\[0\] must be a list of networks with .*, got \[\]"),
        ({"networks": [DEEP | {"width": 2}]}, r"networks\[0\] must be a list of networks with .*, got 2"),
        ({"networks": [DEEP, WIDE | {"depth": 16}]}, r"ResNetCifarSpec.depth must be 6n \+ 2"),
        ({"networks": [DEEP | {"width_multiplier": 0.01}]}, "width_multiplier must be a number ≥ 0.0625"),
        ({"moments": [0.5, 0.2]}, r"moments must be a rising list of shares .*, got \[0.5, 0.2\]"),
        ({"moments": [0.2, 0.2]}, r"moments must be a rising list of shares .*, got \[0.2, 0.2\]"),
        ({"moments": [0.2, 1.0]}, r"moments\[1\] must be a rising list of shares .*, got 1.0"),
        ({"moments": []}, r"moments must be a rising list of shares .*, got \[\]"),
        ({"num_images": 23}, "num_images must be an integer ≥ 24, got 23"),
        ({"num_removed": 11}, "num_removed must be an integer of 1 to 10, got 11"),
        ({"num_removed": 0}, "num_removed must be an integer of 1 to 10, got 0"),
        ({"num_rotated": 3}, "num_rotated must be an integer ≥ 4, got 3"),
        ({"num_rotated": 101}, "num_rotated must be at most num_images 100, got 101; lower it"),
        ({"least_fit": 0.0}, r"least_fit must be a training accuracy in \(0, 1\], got 0.0"),
        ({"norm_momentum": 1.5}, "norm_momentum must be a number > 0 and ≤ 1, got 1.5"),
        ({"validation_size": 0}, "validation_size must be an integer ≥ 1, got 0"),
        ({"data": "photos"}, "data must be one of .*, got 'photos'"),
    ],
    ids=str,
)
def test_mistakes_in_the_parameters_of_the_block_structure_are_named(given, message):
    with pytest.raises(ValueError, match=message) as caught:
        cka_blocks.Parameters.read({"networks": [DEEP]} | given)
    assert "\n" not in str(caught.value)


def test_what_is_just_allowed_of_the_block_structure_is_allowed():
    """The fewest images that leave what may be taken out of them, and every sequence of networks."""
    p = cka_blocks.Parameters.read(
        {
            "networks": [DEEP, WIDE, DEEP | {"seeds": [7]}],
            "compared": [{"networks": ["deep", "wide"], "seeds": [1]}, {"networks": ["deep"], "seeds": [0, 7]}],
            "num_images": 24, "num_removed": 10, "num_rotated": 4, "least_fit": 1.0, "moments": [0.0],
        }
    )  # fmt: skip
    runs = cka_blocks.Runs(p)
    assert [len(stage) for stage in runs.stages()] == [4, 1, 1, 1]
    assert {run.epochs for run in runs.origins.values()} == {(0,)}


ADVISED = [
    *((sparse_mlp.Parameters, "epochs", given, 50) for given in ("50", "50.0", "5e1", 50.0, " 50")),
    *((sparse_mlp.Parameters, "learning_rate", given, 1e-7) for given in ("1e-7", "1.0e-7")),
    *((sparse_mlp.Parameters, "learning_rate", given, 3) for given in ("3", "3.0")),
    *((sparse_mlp.Parameters, "download", given, True) for given in ("true", "True", "yes", "on")),
    *((sparse_mlp.Parameters, "download", given, False) for given in ("false", "False", "no")),
    *(
        (sparse_mlp.Parameters, "widths", given, [5, 7])
        for given in ("[5, 7]", ["5", 7], ["5e0", 7.0], (5, 7))
    ),
    *((sparse_mlp.Parameters, "seeds", given, [3]) for given in (3, "3", "[3]", {3}, range(3, 4))),
    (sparse_mlp.Parameters, "seeds", range(60), list(range(60))),
    (sparse_mlp.Parameters, "activations", "relu", ["relu"]),
    (sparse_mlp.Parameters, "data_sha256", 12, "12"),
    *((gp_kernel.Parameters, "train_size", given, None) for given in ("null", "None", "~", "")),
    (gp_kernel.Parameters, "train_size", "13", 13),
    *((your_network.Parameters, "options", given, {"a": [1, 0.5]}) for given in ("{a: [1, 0.5]}",)),
]
"""Values of the wrong type, and what was meant."""


@pytest.mark.parametrize(("kind", "name", "given", "meant"), ADVISED, ids=repr)
def test_advice_that_is_taken_is_accepted_in_yaml_and_in_a_notebook(kind, name, given, meant):
    with pytest.raises(
        ValueError, match=f"{name} must be .*, got {re.escape(repr(given))}; in YAML"
    ) as caught:
        kind.read({name: given})
    in_yaml, in_python = re.search(r"in YAML write `(.*)`, in Python `(.*)`$", str(caught.value)).groups()
    exec(in_python, page := {})
    for values in (yaml.safe_load(in_yaml), {name: page[name]}):
        value = getattr(kind.read(values), name)
        assert (value, repr(value)) == (
            meant,
            repr(type(value)(meant) if isinstance(value, float) else meant),
        )


@pytest.mark.parametrize("given", ["many", "5, 7", "'", "[5, x]", "nan", "-1", "2.5"])
def test_no_advice_is_given_that_would_be_refused(given):
    for name in ("epochs", "widths"):
        with pytest.raises(ValueError, match=r"got [^`]*$"):
            sparse_mlp.Parameters.read({name: given})
    assert sparse_mlp.Parameters.read({"epochs": 2}).epochs == 2


def test_the_nearest_name_is_accepted():
    with pytest.raises(ValueError, match="did you mean 'learning_rate'"):
        sparse_mlp.Parameters.read({"learnig_rate": 0.5})
    assert sparse_mlp.Parameters.read({"learning_rate": 0.5}).learning_rate == 0.5


def test_numbers_and_arrays_of_numpy_are_parameters_too():
    given = {
        "epochs": np.int64(7),
        "batch_size": np.array(11),
        "learning_rate": np.float32(0.5),
        "download": np.bool_(True),
        "widths": np.array([5, 7]),
        "seeds": [np.int32(3), 4],
        "data": np.str_("mnist"),
    }
    plain = {"epochs": 7, "batch_size": 11, "learning_rate": 0.5, "download": True, "widths": [5, 7]}
    expected = sparse_mlp.Parameters.read(plain | {"seeds": [3, 4], "data": "mnist"})
    assert repr(sparse_mlp.Parameters.read(given)) == repr(expected)
    assert repr(sparse_mlp.Parameters.read(given | {"p": expected})) == repr(expected)


def test_a_parameter_of_another_kind_is_refused_and_not_passed_by():
    for value in (Path("mnist"), object(), b"mnist"):
        with pytest.raises(ValueError, match="data must be .*, got"):
            sparse_mlp.Parameters.read({"data": value})
