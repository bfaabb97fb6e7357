"""What the page on errors of wide and deep networks says of its results."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from wsnlib import book, predictions
from wsnlib.book.wide_vs_deep_errors import Results, Runs
from wsnlib.estimates import shown
from wsnlib.predictions import Population, Position
from wsnlib.store import Store


def summary(
    results: Results,
    runs: Runs,
    store: Store,
    verdicts: book.PageVerdicts,
    *,
    places: Mapping[str, Position],
    classes: pd.DataFrame,
) -> dict[str, str]:
    """The answer, the sentences of the summary and those of its sections, by their names in the text.

    Args:
        results: The populations.
        runs: Theirs.
        store: Holds the records.
        verdicts: Of the page, with its estimates.
        places: Where populations lie between the narrow and the dense one; or none.
        classes: Tests of wide less deep on every class.
    """
    images = _images(results, verdicts)
    return {
        "answer": images + _sparse_answer(results, places),
        "pair_words": _pair(results),
        "image_words": images,
        "remaining": _gap(results),
        "matched_p": f"{results.matched['p_value']:.2g}",
        "matched_words": _equality(verdicts),
        "class_words": _classes(classes, verdicts),
        "family_words": _families(results, verdicts),
        "independence_words": _independence(verdicts),
        "other_words": _other_trainings(results, runs, store, verdicts),
        "sparse_words": _sparse(places),
    }


def _pair(results: Results) -> str:
    """The pair and its accuracies."""
    models: Mapping[str, Any] = results.models
    deep, wide = models["deep"], models["wide"]
    reached = [f"{100 * x.network_accuracy.mean():.1f}" for x in (results.deep, results.wide)]
    return (
        f"ResNet-{deep.depth} with {deep.width} channels and ResNet-{wide.depth} with {wide.width} reach "
        f"{reached[0]} and {reached[1]} %"
    )


def _gap(results: Results) -> str:
    """Accuracy of deep less that of wide networks, in points."""
    mean, low, high = (100 * results.matched[name] for name in ("difference", "low", "high"))
    return f"{mean:+.2f} ({low:+.2f} to {high:+.2f})"


def _images(results: Results, verdicts: book.PageVerdicts) -> str:
    """How much the pair differs on single images."""
    share = predictions.dispersion(results.deep, results.wide).share
    return book.said(
        "On single images, the accuracies of wide and deep networks differ by {} points beyond chance "
        f"(root mean square), a share of {share:.2f} of the observed mean square, while their mean "
        f"accuracies differ by {_gap(results)} points.",
        verdicts.ours.get("excess"),
        otherwise="The two populations could not be compared.",
    )


def at_equal_accuracy(equal: tuple[Population, Population] | None, table: pd.DataFrame | None) -> str:
    """How much the pair differs where every deep network has a wide one of its accuracy.

    Args:
        equal: Networks so paired, or none.
        table: As `chapter.beyond_chance` gives it of these; its second row compares deep and wide ones.
    """
    if equal is None or table is None:
        return "Fewer than six networks of each kind can be paired."
    pairs, row = book.counted(len(equal[0]), "pair"), table.iloc[1]
    if row["low"] <= 0:
        return f"On {pairs} of them no difference remains that could not be chance."
    return (
        f"On {pairs} the typical difference is {max(row['excess'], 0):.1f} points ({max(row['low'], 0):.1f} "
        f"to {max(row['high'], 0):.1f}), so it is not due to accuracy."
    )


def _equality(verdicts: book.PageVerdicts) -> str:
    """Whether the accuracies of the pair are equal within the margin of the claim."""
    found, margin = verdicts.ours["matched"], verdicts.claims["matched"].high
    if -margin <= found.low and found.high <= margin:
        reaches = "lies within half a point"
    elif found.low > margin or found.high < -margin:
        reaches = "lies beyond half a point, so they are not equal to that precision"
    else:
        reaches = "reaches beyond half a point, so equality to that precision is undecided"
    return (
        f"That they are equal within half a point: {verdicts['matched']}. The interval of the two one-sided "
        f"tests, {shown(found)}, {reaches}."
    )


def _independence(verdicts: book.PageVerdicts) -> str:
    """Whether networks of two seeds err independently."""
    return book.said(
        "The accuracy of networks that differ in their seed alone has {} times the standard deviation "
        f"that it would have with independent errors (approximately 1: {verdicts['independent-errors']}). "
        "The latter is {} times the one predicted from how often networks agree (1 within a tenth, of "
        f"networks with an accuracy of at least 65 %: {verdicts['predicted-spread']}).",
        verdicts.ours.get("independent-errors"),
        verdicts.ours.get("predicted-spread"),
        otherwise="Whether their errors are independent could not be measured.",
    )


def _other_trainings(results: Results, runs: Runs, store: Store, verdicts: book.PageVerdicts) -> str:
    """The pair's difference against that of the deep network from itself, trained otherwise."""
    if not results.otherwise:
        return "No network was trained otherwise for this page."
    chosen = runs.other_trainings(store)
    kinds = {
        "rate": f"the learning rate {runs.p.other_learning_rate:g}",
        "augmentation": "the other augmentation",
    }
    return " ".join(
        book.said(
            f"The mean square beyond chance of the wide network less that of {kinds[name]} "
            f"({book.counted(training.epochs, 'epoch')}) is {{}} squared points (architecture changes more: "
            f"{verdicts[f'architecture-{name}']}), with accuracies that differ by {{}} points.",
            verdicts.ours.get(f"architecture-{name}"),
            verdicts.ours.get(f"matched-{name}"),
            otherwise="",
        )
        for name, training in chosen.items()
    )


def _classes(classes: pd.DataFrame, verdicts: book.PageVerdicts) -> str:
    """On how many classes the pair differs, and what classes explain."""
    significant = int((classes["adjusted"] < 0.05).sum())
    return (
        f"{significant} of {len(classes)} classes differ significantly between the wide and the deep "
        f"networks. That classes differ: {verdicts['classes']}; that they explain at most half of the "
        f"differences between images, V² = {shown(verdicts.ours['class-share'])}: {verdicts['class-share']}."
    )


def _families(results: Results, verdicts: book.PageVerdicts) -> str:
    """What depth and width change."""
    if not results.ends:
        return "No networks of other depths and widths were trained for this page."
    ours = verdicts.ours
    better = book.said(
        "Accuracy changes by {} points from the shallowest to the deepest network and by {} from the "
        "narrowest to the widest.",
        ours.get("deeper-better"),
        ours.get("wider-better"),
        otherwise="The ends of the two families could not be compared.",
    )
    where = book.said(
        "The gain on images that the smaller network often, but not always, gets right, less that on "
        "images that it rarely gets right, is {} points with depth and {} with width.",
        ours.get("gain-depth"),
        ours.get("gain-width"),
        otherwise="Where larger networks gain could not be measured.",
    )
    return (
        f"{better} {where} That depth helps most on such images: {verdicts['gain-depth']}; that width does: "
        f"{verdicts['gain-width']}. That networks more alike in depth make more similar errors: "
        f"{verdicts['similar-depth']}; that those more alike in width do: {verdicts['similar-width']}."
    )


def _along(place: Position) -> str:
    return f"{place.along:.2f} ({place.along_low:.2f} to {place.along_high:.2f})"


def _sparse_answer(results: Results, places: Mapping[str, Position]) -> str:
    """Where the sparse network lies, with the sizes of all three."""
    if not places:
        return ""
    models: Mapping[str, Any] = results.models
    narrow, sparse, dense = (models[name].width for name in ("narrow", "sparse", "dense"))
    return (
        f" A sparse network with {sparse} channels and only as many weights as the narrow one with {narrow} "
        f"lies, in its errors, at {_along(places['sparse'])} of the way from that (0) to the dense network "
        f"with {dense} channels (1)."
    )


def _sparse(places: Mapping[str, Position]) -> str:
    """Where the sparse network lies, and how far from the way between the other two."""
    if not places:
        return "They were not trained for this page."
    place = places["sparse"]
    aside, at_least, length = (
        100 * math.sqrt(max(square, 0)) for square in (place.aside, place.aside_low, place.length)
    )
    return (
        f"The sparse networks lie at {_along(place)} on the way from the narrow (0) to the dense networks "
        f"(1), and {aside:.1f} points from it (at least {at_least:.1f}; the way is {length:.1f} points "
        "long): a distance whose interval excludes 0 means errors of their own."
    )


def scope(results: Results, runs: Runs, verdicts: book.PageVerdicts) -> dict[str, str]:
    """What was trained, and what limits the comparison; arguments as those of `summary`."""
    p, ours = runs.p, verdicts.ours
    sizes = sorted({p.family_networks, p.other_networks} - {0})
    every_other = f", {' or '.join(map(str, sizes))} of every other kind" if sizes else ""
    seeds = (
        "\n- All populations have the same seeds. Networks of one seed see the images in one order, so that "
        "differences between populations are slightly understated."
    )
    images = "all" if p.train_size is None else f"{p.train_size:,}"
    return {
        "networks": str(p.networks),
        "others": f"{every_other} and {p.search_networks} of each candidate of the search",
        "data_name": f"{images} training images of {book.data_name(p.data_spec)}",
        "epochs": book.counted(p.epochs, "epoch"),
        "caliper": f"{100 * p.caliper:g}",
        "imagenet_runs": book.counted(sum(map(len, runs.imagenet.values())), "training"),
        "control_deep": shown(ours["control-deep"]),
        "control_wide": shown(ours["control-wide"]),
        "control_deep_verdict": str(verdicts["control-deep"]),
        "control_wide_verdict": str(verdicts["control-wide"]),
        "search_networks": book.counted(p.search_networks, "network"),
        "others_again": book.counted(len(results.again["deep"]), "other"),
        "of_search": "" if p.control_networks else ", which chose the pair,",
        "seeds_words": seeds if p.shared_seeds else "",
        "lacking": _lacking(results, runs),
    }


def _lacking(results: Results, runs: Runs) -> str:
    trained = {
        "networks of other depths and widths": results.ends,
        "the sparse network and the two that it lies between": results.others,
        "further networks of the pair's architectures": runs.p.control_networks,
        "the deep network at another learning rate and with another augmentation": results.otherwise,
    }
    left = [what for what, there in trained.items() if not there]
    return f"\n- Not trained for this page: {book.listed(left)}." if left else ""
