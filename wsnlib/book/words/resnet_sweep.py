"""What the page on widths of ResNet-18 says of its results."""

from __future__ import annotations

import math

import pandas as pd

from wsnlib import book
from wsnlib.book import resnet_sweep as chapter
from wsnlib.book.resnet_sweep import Parameters
from wsnlib.estimates import shown, with_minus
from wsnlib.store import Store

MORE = ("more", "less", "neither clearly more nor clearly less")
"""By the sign of a difference."""


def summary(table: pd.DataFrame, p: Parameters, store: Store, verdicts: book.PageVerdicts) -> dict[str, str]:
    """The answer and the sentences of the summary, by their names in the text.

    Args:
        table: As `chapter.results` gives it.
        p: The parameters of the runs.
        store: Holds their records.
        verdicts: Of the page, with its estimates.
    """
    gain, share = _gain(table, p, verdicts), _share(table, p)
    return {
        "answer": f"{gain} {share}",
        "gain": gain,
        "share": share,
        "limit": _limit(p, verdicts),
        "lengths": _lengths(table, p, store),
        "smaller": _smaller(p, verdicts),
        "tuning": _tuning(p, verdicts) + _best_rates(p, store),
        "harder": _harder(table, p, verdicts),
        "masks": _masks(p, verdicts),
    }


def _gain(table: pd.DataFrame, p: Parameters, verdicts: book.PageVerdicts) -> str:
    """Accuracy by width at one number of weights."""
    base = min(p.base_widths)
    family = chapter.family_of(chapter.on_first_data(table), base)
    start, *wider = (100 * family.groupby("width")["test_accuracy"].mean()).items()
    gain = verdicts.ours.get("gain")
    return book.said(
        f"With {family['num_weights'].iloc[0]:,} weights, the dense network of width {base} classifies "
        f"{start[1]:.1f} % of the test images correctly, and sparse networks of width "
        f"{book.listed(width for width, _ in wider)} reach "
        f"{book.listed(f'{accuracy:.1f}' for _, accuracy in wider)} %: wider networks are "
        f"{book.by_sign(gain, *MORE)} accurate, on average by {{}} points.",
        gain,
        otherwise="No network wider than its base was trained here.",
    )


def _share(table: pd.DataFrame, p: Parameters) -> str:
    """The share of the gain that width alone brings, where the sparse networks fit best."""
    first, base = chapter.on_first_data(table), min(p.base_widths)
    found = chapter.judged_share(first, base)
    if found is None or math.isnan(found[1].mean):
        return "No dense network of the same width was trained, so the share of width is not known."
    width, share = found
    fit = _fit(first, base)
    fitted, widest = fit.idxmax(), max(p.widths(base))
    gains = f"has {chapter.share_in_words(share)} times the gain of the equally wide dense one"
    if width == fitted == widest:
        said = (
            f"At width {width}, the widest trained, where the sparse network fits its training images to "
            f"{fit[width]:.0f} % and the fit still rises with width, it {gains}."
        )
    elif width == fitted:
        said = (
            f"At width {width}, where networks with these weights fit the training images best, the sparse "
            f"network {gains}."
        )
    else:
        said = (
            f"At width {width}, the sparse network {gains}; width {fitted}, which fits the training images "
            "best, was not trained dense."
        )
    for name, part in table.groupby("data"):
        other = chapter.judged_share(part, base)
        if other is not None and name != first["data"].iloc[0]:
            said += (
                f" On {names_of_data(p)[str(name)]}, which it fits to {_fit(part, base)[other[0]]:.0f} %, "
                f"the factor is {chapter.share_in_words(other[1])}."
            )
    return said


def _fit(part: pd.DataFrame, base: int) -> pd.Series[float]:
    """Mean training accuracy in % of a family, by width."""
    return 100 * chapter.family_of(part, base).groupby("width")["train_accuracy"].mean()


def _limit(p: Parameters, verdicts: book.PageVerdicts) -> str:
    """Up to which widening factor networks gain."""
    best, base = verdicts.ours.get("best-factor"), min(p.base_widths)
    if best is None or math.isnan(best.mean):
        return "No network wider than its base was trained here."
    widest = max(p.widths(base)) / base
    as_good = (
        "all others are clearly below it"
        if best.low == best.high
        else f"those from factor {best.low:.3g} to {best.high:.3g} are not clearly below it"
    )
    end = (
        "a decline at very large widths, as in the paper, is not seen up to there"
        if best.high >= widest
        else "the widest are clearly below it, as the paper shows of very large widths"
    )
    return f"Of widening factors up to {widest:.3g}, the best is {best.mean:.3g}; {as_good}; {end}."


def _smaller(p: Parameters, verdicts: book.PageVerdicts) -> str:
    """Whether networks with fewer weights gain more."""
    return book.said(
        f"At the largest widening factor of both, the gain at base width {min(p.base_widths)} less that at "
        "the next base width is {} points. That smaller networks gain more: "
        f"{verdicts['smaller-gains-more']}.",
        verdicts.ours.get("smaller-gains-more"),
        otherwise="The gains of several base widths were not measured here.",
    )


def _up_to(p: Parameters) -> str:
    """The widest network with a learning rate of its own, if wider ones were trained."""
    widest = max(map(chapter.width_of, chapter.rate_runs(p)), default=math.inf)
    return f" up to {widest}" if widest < max(p.widths(min(p.base_widths))) else ""


def _tuning(p: Parameters, verdicts: book.PageVerdicts) -> str:
    """The gain with a learning rate of each width's own."""
    tuned, up_to = verdicts.ours.get("resnet-gain-own-rate"), _up_to(p)
    these = f"networks of widths{up_to}" if up_to else "wider networks"
    return book.said(
        f"At a learning rate of each width's own, {these} are {book.by_sign(tuned, *MORE)} accurate than "
        f"the dense network of width {min(p.base_widths)}, a difference of {{}} points on average; at one "
        "learning rate it is {}.",
        tuned,
        verdicts.ours.get("resnet-gain-own-rate/one rate"),
        otherwise="No wider network was trained at a rate of its own; `largest_tuned_width` names the "
        "widest that is."
        if p.learning_rates
        else "Other learning rates were not tried here; `learning_rates` names those to be tried.",
    )


def _best_rates(p: Parameters, store: Store) -> str:
    """Which learning rates were best, and whether they lie at an end of the grid."""
    if not p.learning_rates:
        return ""
    best = list(chapter.tried_rates(p, store).idxmax(axis=1))
    at_end = sum(rate in (min(p.learning_rates), max(p.learning_rates)) for rate in best)
    if len({*best}) == 1:
        chosen, those = f"All widths{_up_to(p)} took the same rate, {best[0]:g}", "it lies"
    else:
        base = min(p.base_widths)
        widest = max(map(chapter.width_of, chapter.rate_runs(p)))
        rates = book.listed(f"{rate:g}" for rate in best)
        chosen = f"From width {base} to {widest}, the best rates are {rates}"
        count = "all" if at_end == len(best) else at_end
        those = f"{count} of them {'lies' if at_end == 1 else 'lie'}"
    if not at_end:
        return f" {chosen}."
    return f" {chosen}; {those} at an end of the grid, beyond which there may be better ones."


def _lengths(table: pd.DataFrame, p: Parameters, store: Store) -> str:
    """The gain after the whole training and after the short one that chose learning rates."""
    if not p.learning_rates or p.rate_epochs == p.epochs:
        return ""
    by_length = chapter.gains_by_length(chapter.on_first_data(table), p, store)
    whole, short = by_length.xs(p.epochs), by_length.xs(p.rate_epochs).dropna()
    if whole.isna().any():
        return ""
    long, *others = (with_minus(f"{gain:.1f}") for gain in (*whole, *short))
    up_to = _up_to(p)
    return (
        f"On validation images, the mean gain{' of widths' * bool(up_to)}{up_to} is {long} points after "
        f"{book.counted(p.epochs, 'epoch')}; after {book.counted(p.rate_epochs, 'epoch')} (one seed) it is "
        f"{book.listed(others)} points at learning rates of "
        f"{book.listed(f'{rate:g}' for rate in short.index)}."
    )


def _harder(table: pd.DataFrame, p: Parameters, verdicts: book.PageVerdicts) -> str:
    """The gains on several data sets."""
    sets, widths = names_of_data(p), p.widths(min(p.base_widths))
    present = [set(part["width"]) for _, part in table.groupby("data")]
    common = [width for width in widths[1:] if all(width in each for each in present)]
    by_data = chapter.gains_by_data(table, p) if len(widths) > 1 else {}
    of_harder = by_data.pop("harder less easier", None)
    gains = book.listed(f"{shown(gain)} points on {sets[name]}" for name, gain in by_data.items())
    return book.said(
        f"At width{'s' * (len(common) > 1)} {book.listed(common)}, which all data sets have, width brings "
        f"{gains}: a difference of {{}} points. That more difficult tasks gain more: "
        f"{verdicts['harder-tasks']}; {book.counted(len(sets), 'data set')} cannot say it of tasks in "
        "general.",
        of_harder,
        otherwise="The gains on several data sets could not be compared here."
        if len(sets) > 1
        else f"Only {book.listed(sets.values())} was trained on here; `more_data` names further data sets, "
        "such as `cifar100` and `svhn`, and `download` fetches them.",
    )


def _masks(p: Parameters, verdicts: book.PageVerdicts) -> str:
    """Masks over single weights against masks over channels."""
    masked, factors = verdicts.ours.get("masks-similar"), book.listed(f"{x:g}" for x in p.channel_factors)
    over = f"factors {factors} on average" if len(p.channel_factors) > 1 else f"factor {factors} alone"
    return book.said(
        f"Networks from which single weights are removed are {book.by_sign(masked, *MORE)} accurate than "
        f"those from which whole kernels are, a difference of {{}} points at widening {over}. That both "
        f"kinds of masks give very similar results: {verdicts['masks-similar']}.",
        masked,
        otherwise="The two kinds of masks were not compared here.",
    )


def scope(table: pd.DataFrame, p: Parameters, store: Store) -> dict[str, str]:
    """What was trained, and what limits the comparison; arguments as those of `summary`."""
    whole, rates = [*chapter.runs(p), *chapter.own_rate_runs(p, store)], chapter.rate_runs(p)
    first, sets = chapter.on_first_data(table), names_of_data(p)
    reached = 100 * first.groupby(["method", "base", "width"])["test_accuracy"].mean()
    taken = "all" if p.train_size is None else f"{p.train_size:,}"
    validated = p.preset == "clean" and p.train_size is None
    aside = f", {p.validation_size:,} of them for validation" if validated else ""
    others = {"shorter ones to choose rates": rates, "on photographs": chapter.imagenet_runs(p)}
    beside = [f"{len(those)} {which}" for which, those in others.items() if those]
    fit = 100 * first.groupby(["method", "width"])["train_accuracy"].mean()
    noise = chapter.cells_and_seeds(first).deviation
    tuned = "the shorter schedule was tuned for no network"
    if p.learning_rates:
        tuned = (
            f"of {book.listed(f'{rate:g}' for rate in p.learning_rates)} each width{_up_to(p)} of the family "
            f"of sparse networks also took its best ({book.counted(len(rates), 'further training')} of "
            f"{book.counted(p.rate_epochs, 'epoch')}), and dense networks wider than the base were not tuned"
        )
    return {
        "tuned": tuned,
        "learning_rate": f"{p.learning_rate:g}",
        "num_runs": book.counted(len({*whole} - {*rates}), "training"),
        "beside": f"; with {book.listed(beside)}" if beside else "",
        "base_widths": f"base width{'s' * (len(p.base_widths) > 1)} {book.listed(p.base_widths)}",
        "images": f"{taken} images of {book.listed(sets.values())}{aside}",
        "epochs": book.counted(p.epochs, "epoch"),
        "accuracy": book.span(reached, "{:.1f}"),
        "where": f" on {next(iter(sets.values()))}" * (len(sets) > 1),
        "top_training": f"{fit.max():.1f}",
        "num_seeds": book.counted(len(p.seeds), "seed"),
        "num_diverged": book.counted(int((table["status"] == "diverged").sum()), "run"),
        "seed_noise": "not known" if math.isnan(noise) else f"{noise:.2f} points",
    }


def on_photographs(photographs: pd.DataFrame | None, p: Parameters) -> dict[str, str]:
    """What stands beside the paper's numbers on ImageNet.

    Args:
        photographs: As `chapter.photograph_accuracy` gives it; None if none was trained on.
        p: The parameters of the runs.
    """
    trained = int(book.printed_table("G21", "Table 1")[["dense", "sparse"]].count().sum())
    if photographs is None or p.imagenet_folder is None:
        said = "Photographs of your own, or a part of ImageNet, take its place with `imagenet_folder`."
        return {"num_imagenet": str(trained), "miniature": said}
    above, widest = chapter.gains_on_photographs(photographs, p), max(p.imagenet_widths)
    gained = book.said(
        f"At width {widest}, the accuracy of the sparse network differs from that of the base by {{}} "
        "points, that of the dense one by {} points; an interval that contains 0 leaves open whether "
        "widening gains.",
        above.get(("sparse", widest)),
        above.get(("dense", widest)),
        otherwise="",
    )
    said = (
        f"The second table is Table 1 in miniature, on {len(chapter.imagenet_runs(p))} trainings with the "
        f"photographs of `{p.imagenet_folder}`: {p.imagenet_classes} classes, {p.imagenet_size} pixels, "
        f"{book.counted(p.imagenet_epochs, 'epoch')}, base width {p.imagenet_widths[0]}, "
        f"{book.counted(len(p.imagenet_seeds), 'seed')}. {gained}"
    )
    return {"num_imagenet": str(trained), "miniature": said}


def names_of_data(p: Parameters) -> dict[str, str]:
    """What the data sets are called in text, by the classes of their specs."""
    return {type(source).__name__: book.data_name(source) for source in p.data_specs.values()}
