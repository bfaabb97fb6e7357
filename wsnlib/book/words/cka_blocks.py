"""What the page on block structure says of its results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pandas as pd
from scipy import stats

from wsnlib import book
from wsnlib.book import cka_blocks as chapter
from wsnlib.book.cka_blocks import Results
from wsnlib.estimates import Estimate, shown

BLOCK = (
    "A *block* is a range of layers in which even distant ones are more alike than one inside and a nearer "
    "one outside."
)

SHARE, CORRELATION = (0, 1), (-1, 1)
ENDS = {
    "component": SHARE,
    "component-kept": SHARE,
    "few-images": SHARE,
    "dominant-change": SHARE,
    "dominant-seeds": SHARE,
    "component-map": CORRELATION,
    "component-apart": CORRELATION,
    "unchanged": CORRELATION,
    "unique": CORRELATION,
}
"""What shares and correlations can be, where their intervals are cut."""


class Sentences:
    """Sentences with our estimates, by the names of the claims.

    Args:
        ours: Estimates, as `chapter.estimates` gives them.

    Examples:
        >>> say = Sentences({"component": Estimate(mean=0.75, low=0.5, high=1.25, n=3)})
        >>> say("It explains {} of the variance.", "component")
        'It explains 0.75 (0.50 to 1.00) of the variance.'
        >>> say("It explains {}.", "late", otherwise="It was not measured.")
        'It was not measured.'
    """

    def __init__(self, ours: Mapping[str, Estimate]) -> None:
        self.ours = ours

    def __call__(self, sentence: str, *names: str, otherwise: str = "") -> str:
        return book.said(sentence, *map(self._within, names), otherwise=otherwise)

    def _within(self, name: str) -> Estimate | None:
        found = self.ours.get(name)
        if found is None or name not in ENDS:
            return found
        least, most = ENDS[name]
        return replace(found, low=max(found.low, least), high=min(found.high, most))


def summary(results: Results, ours: Mapping[str, Estimate]) -> dict[str, str]:
    """The answer, the sentences of the summary and those of its sections, by their names in the text.

    Args:
        results: What was measured.
        ours: Its estimates.
    """
    say, blocks = Sentences(ours), results.judged(block=True)
    found, unfit = _found(results), [m.title for m in results.ordered if not m.fits]
    not_counted = f" Not counted for want of fit: {book.listed(dict.fromkeys(unfit))}." if unfit else ""
    at_border = sum(m.ends_with_stage for m in blocks)
    border = (
        f"{at_border} of the blocks {'ends' if at_border == 1 else 'end'} where a stage begins, where "
        "similarity drops anyway."
    )
    changes = ("grows by {}", "changes by {}", "changes by {}, within noise")
    depths = [seeds[0].network.title for seeds in results.deeper]
    ends = " to ".join(depths[:1] + depths[1:][-1:])
    depth = say(f"From {ends} block strength {book.by_sign(ours.get('depth'), *changes)}.", "depth")
    width = say(
        f"From the narrowest to the widest it {book.by_sign(ours.get('width'), *changes)}.",
        "width",
        otherwise="No two widths have three networks that fit." if results.wider else "",
    )
    parts = BLOCK, found, border if at_border else "", depth, width, _few(results, say)
    answer = " ".join(filter(None, parts))
    one_width = {m.network.width_multiplier for m in results.ordered} == {1}
    return {
        "answer": answer.replace(" (1×)", "") if one_width else answer,
        "block_words": found + not_counted,
        "depth_words": depth,
        "width_words": width,
        **_of_components(results, say),
        **_of_images(results, say),
        "contribution_words": say(
            "Along the middle stage, probes gain {} points more without a block than with one; deleting "
            "most of it costs {} points more.",
            "probes",
            "deletion",
            otherwise="Networks with and without a block could not be compared.",
        ),
        "unique_words": _between_seeds(say),
        "bures_words": _by_bures(results),
    }


def _found(results: Results) -> str:
    """In which networks there are blocks, the deepest first."""
    counts: dict[str, list[bool]] = {}
    for m in reversed(results.ordered):
        if m.fits:
            counts.setdefault(m.title, []).append(m.has_block)
    told = [f"{sum(each)} of {len(each)} {title}" for title, each in counts.items() if any(each)]
    without = {title: len(each) for title, each in counts.items() if not any(each)}
    if len(without) < 3:
        told += [f"0 of {number} {title}" for title, number in without.items()]
    else:
        told.append(f"none of {sum(without.values())} others")
    if not told:
        return "No network fits its images, so that no claim is decided."
    return f"A block was found in {book.listed(told)}."


def _few(results: Results, say: Sentences) -> str:
    """The answer on components and images; one or two networks are told one by one."""
    blocks, images = results.judged(block=True), f"{results.runs.p.num_images:,}"
    sentence = (
        "Inside blocks the first component explains {} of the variance; without it, {} of the strength "
        f"is left; ten of {images} images carry {{}} of it."
    )
    if len(blocks) > 2:
        return say(sentence, "component", "component-removed", "few-images")
    values = [
        [f"{m.ratio_inside:.2f}" for m in blocks],
        [f"{m.left_without_component:.2f}" for m in blocks],
        [f"{m.top_share_inside:.2f}" for m in blocks],
    ]
    return sentence.format(*map(book.listed, values)) if blocks else ""


def _of_components(results: Results, say: Sentences) -> dict[str, str]:
    blocks = results.judged(block=True)
    component = say(
        f"In the {book.counted(len(blocks), 'network')} with a block, the first component explains {{}} of "
        "the variance inside it, {} more than outside; the squared cosine between the components of two "
        "of its outputs is {}; without the component, {} of the strength is left.",
        "component",
        "component-inside",
        "component-kept",
        "component-removed",
        otherwise="No network that fits has a block, so that its component was not measured.",
    )
    over_networks = ""
    if len(blocks) > 2:
        left = shown(say.ours["component-removed/networks"])
        over_networks = f" These are means over seeds; over networks the last is {left}."
    correlate = "he squared cosines of all pairs of outputs correlate with their CKA"
    maps = say(f"T{correlate} by {{}} with a block.", "component-map")
    maps += say(
        f" Without one {'they do' if maps else 't' + correlate} by {{}}, and CKA with the component "
        "correlates with CKA without it by {}.",
        "component-apart",
        "unchanged",
    )
    return {"component_words": component, "by_network": over_networks, "map_words": maps}


def _of_images(results: Results, say: Sentences) -> dict[str, str]:
    those, images = book.counted(len(results.judged(block=True)), "network"), results.runs.p.num_images
    dominant = say(
        f"In the {those} with a block, ten of the {images:,} measured images carry {{}} of the variance "
        f"along the first component ({_normal_share(chapter.TOP / images):.2f} if coordinates were normally "
        "distributed). Without the ten most dominant images, {} of the strength is left.",
        "few-images",
        "dominant-removed",
        otherwise="No network that fits has a block, whose dominant images could be told.",
    )
    others = say(" Without ten others the strength changes by {} of itself.", "others-removed")
    others += say(" Two seeds have {} of their ten images in common.", "dominant-seeds")
    early = say(
        "After a fifth of the epochs the block has {} of its final strength, and {} of the images that "
        "are then the ten most dominant still are at the end.",
        "early",
        "dominant-change",
        otherwise="Where no block is found in a network that fits, nothing forms.",
    )
    return {"dominant_words": dominant, "other_images": others, "early_words": early}


def _normal_share(part: float) -> float:
    """Share of a normal variable's variance that its most extreme values carry, this part of them.

    Examples:
        >>> round(_normal_share(0.01), 3), _normal_share(1.0)
        (0.084, 1.0)
    """
    end = stats.norm.isf(part / 2)
    return float(2 * (end * stats.norm.pdf(end) + stats.norm.sf(end)))


def _between_seeds(say: Sentences) -> str:
    unique = say(
        "Inside a block, CKA within one network less that between two seeds is {}.",
        "unique",
        otherwise="No block was found in two seeds that could be compared.",
    )
    unique += say(
        " That is {} more than in the highest-ranked ranges of networks without one.", "unique-contrast"
    )
    return unique + say(
        " An output outside of the block is {} more like itself in the other seed than one inside.", "outside"
    )


def _by_bures(results: Results) -> str:
    return " ".join(
        f"Over the highest-ranked {'block' if m.has_block else 'range'} of {m.name}, mean CKA is "
        f"{m.mean_inside(m.origins.output_cka):.2f}, and the mean Bures similarity "
        f"{m.mean_inside(m.origins.bures):.2f}."
        for m in results.shown
        if m.inside_outputs.sum() > 1
    )


def scope(results: Results) -> dict[str, str]:
    """What was trained and measured, and what limits the comparison."""
    p, ordered = results.runs.p, results.ordered
    networks = [m.network for m in ordered]
    names = list(dict.fromkeys(network.title for network in networks))
    sizes = sorted({p.train_size(network.part) for network in networks})
    fit = pd.DataFrame(
        {
            "network": [m.title for m in ordered],
            "training": [100 * m.origins.train_accuracy for m in ordered],
            "test": [100 * m.origins.test_accuracy for m in ordered],
        }
    ).groupby("network")
    epochs = [network.epochs for network in networks]
    rate = "that" if p.learning_rate == 0.01 else "not the *0.01*"
    return {
        "confounded": _confounded(results),
        "num_networks": book.counted(len(ordered), "training"),
        "architectures": book.listed(names)
        if len(names) < 5
        else f"{len(names)} architectures of depths {book.span((n.depth for n in networks), '{:d}')}"
        f" and widths {book.span((n.width_multiplier for n in networks), '{:g}×')}",
        "part": f"{book.listed(f'{n:,}' for n in sizes)} images",
        "data_name": book.data_name(p.data_spec()),
        "epochs": f"{book.span(epochs, '{:d}')} epoch{'s' * (max(epochs) > 1)}",
        "fit_range": book.span(fit["training"].mean(), "{:.0f}"),
        "test_range": book.span(fit["test"].mean(), "{:.0f}"),
        "num_seeds": "1 seed"
        if len({m.seed for m in ordered}) == 1
        else f"{book.span(fit.size(), '{:d}')} seeds each",
        "num_validation": f"{p.validation_size:,}",
        "num_images": f"{p.num_images:,}",
        "num_rotated": f"{p.num_rotated:,}",
        "least_fit": f"{100 * p.least_fit:g}",
        "learning_rate": f"{p.learning_rate:g}, {rate} of the authors' released code",
        "other_data": "CIFAR-10" if p.data == "cifar100" else "CIFAR-100 (Figures D.3 and D.4)",
        "history": _history(results),
        "planned": _planned(results),
        "deepest": f"ResNet-{max(n.depth for n in networks)}",
        "widest": f"{max(n.width_multiplier for n in networks):g}×",
        "tops": book.listed(ordered[0].origins.top_shares),
        "every_of": book.counted(chapter.seeds_of_every(), "seed"),
    }


def _confounded(results: Results) -> str:
    """What else differs between the networks that are compared."""
    found, deeper = "", [results.deeper[end] for end in (0, -1)] if results.deeper else []
    if deeper and deeper[0][0].network.epochs != deeper[-1][0].network.epochs:
        trained = [
            f"{seeds[0].network.title} was trained for {seeds[0].network.epochs} epochs, to a training "
            f"accuracy of {100 * np.mean([m.origins.train_accuracy for m in seeds]):.1f} %"
            for seeds in deeper
        ]
        found = f"\n- {', and '.join(trained)}: a difference over depth may be one of training."
    having, without = ([m.network.depth for m in results.judged(block=flag)] for flag in (True, False))
    if having and without and np.mean(having) > np.mean(without):
        found += (
            "\n- Networks with a block are deeper on average than those without, so that contrasts of the "
            "two are contrasts of depth, too."
        )
    return found


def _history(results: Results) -> str:
    """What was planned otherwise for the published page."""
    stopped, longer = (results.networks.get((name, 0)) for name in ("shallow", "shallow for long"))
    published = results.runs.p.profile == "cpu" and results.runs.p.changed() == {}
    if not (published and stopped and longer):
        return ""
    return (
        f"\n- {stopped.title} was to have three seeds, too; the other two were stopped when the first did "
        f"not fit, and three were trained for {longer.network.epochs} epochs instead."
    )


def _planned(results: Results) -> str:
    networks = [m.network for m in results.ordered]
    trained = {
        "width": len(results.wider) > 1,
        "more data": bool(results.on_more_data),
        "no residual connections": not all(network.residual for network in networks),
        "greater depth": max(network.depth for network in networks) >= 110,
    }
    left = [name for name, there in trained.items() if not there]
    if not left or results.runs.p.profile != "cpu":
        return ""
    return f" What is planned next stands in `params/planned/cka_blocks.cpu.yml`: {book.listed(left)}."
