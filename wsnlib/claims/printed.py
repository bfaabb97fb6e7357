"""Numbers that the papers print and no claim of a chapter holds, each with the range of its rounding."""

from __future__ import annotations

from collections.abc import Iterator

from wsnlib.claims.resnet_sweep import FIGURE_10
from wsnlib.claims.rule import Claim
from wsnlib.claims.wide_vs_deep_errors import FIGURE_F2, FIGURE_F3, TABLE_B1, TABLE_F1, TABLE_F2

BASE_WEIGHTS: dict[int, float] = {8: 1.8e5, 12: 4.0e5, 18: 9.0e5, 40: 4.4e6, 64: 1.1e7}
"""G21, Appendix A: number of weights of ResNet-18 by base width, to two digits; they are those of 100 classes."""

TABLE_1_MILLIONS: dict[int, float] = {64: 11.7, 90: 22.8, 128: 45.7, 181: 90.7, 256: 180.6}
"""G21, Table 1: number of weights of the dense networks on ImageNet, in millions."""

_CIFAR = "needs the whole training of the paper's networks"
_IMAGENET = "no page trains on ImageNet"


def _number(
    name: str, source: str, statement: str, value: float, tolerance: float, unit: str, untested: str = ""
) -> Claim:
    return Claim(
        name=name,
        source=source,
        statement=statement,
        reported=value,
        low=value - tolerance,
        high=value + tolerance,
        unit=unit,
        full_protocol_only=bool(untested),
        untested=untested,
    )


def _computed() -> Iterator[Claim]:
    for width, weights in BASE_WEIGHTS.items():
        yield _number(
            f"weights-{width}",
            "G21, Appendix A",
            f"ResNet-18 of width {width} has {weights:.1e} weights (with 100 classes).",
            weights,
            0.06 * 10 ** (len(f"{weights:.0f}") - 1),
            "weights",
        )
    for width, millions in TABLE_1_MILLIONS.items():
        yield _number(
            f"imagenet-weights-{width}",
            "G21, Table 1",
            f"On ImageNet the dense network of width {width} has {millions} million weights.",
            millions,
            0.051,
            "million weights",
        )
    yield _number(
        "mlp-weights",
        "G21, Appendix A",
        "The MLP of Figure 8 of width 8 has 6,352 weights.",
        6352,
        0,
        "weights",
    )
    for width, layers in FIGURE_10.items():
        for layer, sparsity in layers.items():
            yield _number(
                f"sparsity-{width}-{layer}",
                "G21, Figure 10",
                f"Width {width}: the sparsity of {layer} is {sparsity} %.",
                sparsity,
                0.051,
                "% of weights removed",
            )


def _errors() -> Iterator[Claim]:
    for (depth, k), both in TABLE_B1.items():
        for data, accuracy in zip(("CIFAR-10", "CIFAR-100"), both, strict=True):
            yield _number(
                f"b1-{data}-{depth}-{k}",
                "N21, Table B.1",
                f"{data}, ResNet-{depth} ({k}×): {accuracy} %.",
                accuracy,
                0.3,
                "% of test images",
                _CIFAR,
            )
    for figure, what, values in (
        ("F.2", "ResNet-{:g} (1×)", FIGURE_F2),
        ("F.3", "ResNet-26 ({:g}×)", FIGURE_F3),
    ):
        for size, accuracy in values.items():
            yield _number(
                f"{figure}-{size:g}",
                f"N21, Figure {figure}",
                f"CIFAR-10, {what.format(size)}: {accuracy} %.",
                accuracy,
                0.3,
                "% of test images",
                _CIFAR,
            )
    for name, value in (("ResNet-50", 76.97), ("ResNet-83", 78.00), ("ResNet-50 (2.8×)", 77.97)):
        yield _number(
            f"F.4-{name}",
            "N21, Figure F.4",
            f"ImageNet, {name}: {value:.2f} %.",
            value,
            0.1,
            "% of test images",
            _IMAGENET,
        )
    for model, aic in TABLE_F1.items():
        yield _number(
            f"aic-{model}",
            "N21, Table F.1",
            f"ImageNet: the AIC of model {model} is {aic:,}.",
            aic,
            0.01 * aic,
            "AIC",
            _IMAGENET,
        )
    for group, (classes, wide, deep, difference, _) in TABLE_F2.items():
        yield _number(
            f"group-{group}",
            "N21, Table F.2",
            f"ImageNet, {group} ({classes} classes): wide {wide} %, deep {deep} %.",
            difference,
            0.2,
            "points, wide less deep",
            _IMAGENET,
        )


def _in_text() -> Iterator[Claim]:
    for name, source, statement, value, tolerance, unit in (
        ("t-matched", "N21, Figure F.1", "Equal accuracy of deep and wide: t(199) = 0.73, p = 0.47.", 0.47, 0.42, "p"),
        ("t-imagenet", "N21, Figure F.4", "Deeper and wider ResNet-50: t(99) = 2.0, p = 0.047.", 0.047, 0.04, "p"),
        ("different-classes", "N21, Section 7", "419 of 1,000 classes of ImageNet differ.", 419, 42, "classes"),
        ("scene-classes", "N21, Section 7", "Wide are better on 68 scene-like classes: 74.9 against 74.6 %, p = 6e-5.", 0.3, 0.2, "points, wide less deep"),
        ("goods-classes", "N21, Section 7", "Deep are better on 62 classes of goods: 72.4 against 72.1 %, p = 0.001.", -0.3, 0.2, "points, wide less deep"),
        ("dog-classes", "N21, Section 7", "Both reach 81.6 % on the 118 classes of dogs, p = 0.48.", 0, 0.1, "points, wide less deep"),
    ):  # fmt: skip
        yield _number(
            name, source, statement, value, tolerance, unit, _IMAGENET if "F.1" not in source else _CIFAR
        )


PRINTED: dict[str, Claim] = {claim.name: claim for part in (_computed, _errors, _in_text) for claim in part()}
"""Numbers that the papers print, by name.

Left out are those in a table of seeds or images of one figure, and of G21's Figure 10 the panel of width 12 and
the shortcuts of the second and third stage.
"""
