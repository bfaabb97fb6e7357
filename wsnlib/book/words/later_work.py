"""What the page on later work says of its results."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd

from wsnlib import book, experiments
from wsnlib.book import later_work as chapter
from wsnlib.book.later_work import Parameters
from wsnlib.estimates import median_and_range, shown

NOT_RUN = "Not trained with these parameters. "

RATES = {"rates-differ": "sparse and dense networks differ in their best rate"}
SMU = {
    "smu-one-rate": "with SμPar one rate serves all widths",
    "smu-better": "SμPar beats the standard parametrisation at the dense network's rate",
}
DATA = {"more-data-wider": "more data favour a higher sparsity"}
RULES = {
    "erk-better": "Erdős–Rényi-kernel densities beat a uniform one at high sparsity",
    "balanced-better": "balanced ratios beat Erdős–Rényi-kernel ones",
    "pyramidal-better": "pyramidal ratios beat Erdős–Rényi-kernel ones",
}
PATTERNS = {
    "constant-fan-in": "a constant fan-in is as good as random masks",
    "balanced-mask": "balanced masks are as good as random ones",
    "block-mask": "blocks are as good as random masks",
}
MOVES = {
    "set-better": "SET beats static masks at high sparsity",
    "rigl-better": "RigL beats static masks at high sparsity",
    "rigl-gap-grows": "RigL's advantage grows with sparsity",
}
ENSEMBLES = {
    "wide-beats-ensemble": "one wide, dense network beats an ensemble of narrow ones",
    "sparse-beats-ensemble": "one wide, sparse network beats an ensemble of narrow ones",
}
SPLITS = {
    "split-gain": "splitting units helps",
    "split-interference": "splitting units helps more where they are fewer",
}
CKA = {
    "cka-moved": "moving points far away changes CKA by a closed form",
    "cka-few-features": "sampling units lowers CKA",
    "cka-few-directions": "few directions drive CKA: it exceeds the angular Procrustes similarity, as "
    "algebra says",
}


class Sentences:
    """Sentences with the estimates and verdicts of claims, by the claims' names.

    Args:
        verdicts: Of the page, with its estimates.
    """

    def __init__(self, verdicts: book.PageVerdicts) -> None:
        self.verdicts, self.ours = verdicts, verdicts.ours

    def __call__(self, sentence: str, *names: str) -> str:
        """A sentence with the estimates for these claims, if they were measured."""
        return book.said(sentence, *map(self.ours.get, names), otherwise=NOT_RUN)

    def judged(self, claims: Mapping[str, str], *, sizes: bool = False) -> str:
        """What some claims say, by their names, after their verdicts.

        Args:
            claims: What each says.
            sizes: Whether with what was measured.
        """
        said: dict[str, list[str]] = {}
        for name, what in claims.items():
            notes = [self._size(name)] if sizes and self._is_tested(name) else []
            if "Holm" in (why := self.verdicts.judgements[name].why):
                notes.append(why)
            noted = f"{what} ({'; '.join(notes)})" if notes else what
            said.setdefault(str(self.verdicts[name]).capitalize(), []).append(noted)
        return " ".join(f"{verdict}: {'; '.join(each)}." for verdict, each in said.items())

    def _is_tested(self, name: str) -> bool:
        return name in self.ours and math.isfinite(self.ours[name].mean)

    def _size(self, name: str) -> str:
        """What was measured for a claim, without the interval."""
        unit, found = self.verdicts.claims[name].unit, self.ours[name]
        mean = shown(found).partition(" (")[0]
        if not unit.startswith("points"):
            return f"{unit}: {mean}"
        return f"{'+' * (unit == 'points' and found.mean > 0)}{mean} {unit}"


def summary(tables: Mapping[str, pd.DataFrame], p: Parameters, verdicts: book.PageVerdicts) -> dict[str, str]:
    """The answer, the sentences of the summary and those of all sections, by their names in the text.

    Args:
        tables: As `chapter.results` gives them, by part of the page.
        p: The parameters of the runs.
        verdicts: Of the page, with its estimates.
    """
    say = Sentences(verdicts)
    return {
        **_answer(p, say),
        **_rates(tables, p, say),
        **_data(tables, say),
        **_rules(tables, p, say),
        **_masks(p, say),
        **_parts(p, say),
        **_cka(say),
    }


def _answer(p: Parameters, say: Sentences) -> dict[str, str]:
    """Whether the gain is one of the learning rate, and how many claims hold."""
    sign = book.by_sign(say.ours["gain-own-rate"], "No", "Yes", "Not decided")
    verdicts = [str(say.verdicts[name]) for name in say.verdicts.claims]
    failed = verdicts.count("not reproduced") + verdicts.count("refuted")
    untested = " or not tested" if "not tested" in verdicts else ""
    return {
        "answer": say(
            f"{sign}: with a learning rate for each width, chosen on validation images, a sparse network of "
            f"width {chapter.middle_width(p)} gains {{}} points over the dense network with the same number "
            "of weights; with one rate for all, {}.",
            "gain-own-rate",
            "gain-own-rate/one rate",
        ),
        "of_claims": f"Of {len(verdicts)} claims, judged on small MLPs, {verdicts.count('reproduced')} are "
        f"reproduced, {verdicts.count('verified')} verified by computation and {failed} not; the others are "
        f"open{untested}.",
    }


def _rates(tables: Mapping[str, pd.DataFrame], p: Parameters, say: Sentences) -> dict[str, str]:
    """One learning rate or one for each width, without and with SμPar."""
    own, widest = list(chapter.own_rates(tables["rate"]).values()), max(p.widths)
    at_end = sum(rate in (p.learning_rates[0], p.learning_rates[-1]) for rate in own)
    lost = say(
        f"At the rate that is best for the dense network, width {widest} loses {{}} points", "rates-differ"
    )
    all_lose = say(
        "; all wider networks lose {} on average. When each has its own, their mean gain over the dense "
        "network is {} points. ",
        "rates-differ/mean over widths",
        "gain-own-rate/mean over widths",
    )
    by_smu = say(
        "With SμPar, the dense network's rate costs wider networks {} points on average. At that rate, "
        f"the gain of SμPar over the standard parametrisation is {{}} points at width {widest}, and {{}} on "
        "average over all wider networks. ",
        "smu-one-rate",
        "smu-better",
        "smu-better/mean over widths",
    )
    return {
        "rate_words": f"From the narrowest to the widest network, the best learning rates are "
        f"{book.listed(f'{rate:g}' for rate in own)}; {at_end} of the {len(own)} "
        f"{'lies' if at_end == 1 else 'lie'} at an end of the grid. {lost}{all_lose}{say.judged(RATES)}",
        "smu_words": by_smu + say.judged(SMU),
        "smu_summary": f"{lost}. {say.judged(SMU, sizes=True)}",
    }


def _data(tables: Mapping[str, pd.DataFrame], say: Sentences) -> dict[str, str]:
    """Whether more images favour wider networks."""
    found = NOT_RUN
    if "data" in tables:
        best = 2 ** np.log2(chapter.best_widths(tables["data"])).mean().round(2)
        of_sizes = book.listed(f"{width:.0f} for {size:,} images" for size, width in best.items())
        doublings = say("{} doublings per tenfold increase.", "more-data-wider")
        found = f"The best width (geometric mean over seeds) is {of_sizes}: {doublings}"
    return {
        "data_words": f"{found} {say.judged(DATA)}",
        "data_summary": say.judged(DATA, sizes=True),
    }


def _rules(tables: Mapping[str, pd.DataFrame], p: Parameters, say: Sentences) -> dict[str, str]:
    """How weights are distributed over layers."""
    gains = say(
        "The gain of Erdős–Rényi-kernel densities over a uniform one is {} points at the lowest density "
        "of the network and {} on average over all densities. At the lowest density, that of G21's rule "
        "over Erdős–Rényi-kernel densities is {}; at the lowest density where they exist, that of "
        "pyramidal ratios over these is {}. ",
        "erk-better",
        "erk-better/mean over densities",
        "balanced-better",
        "pyramidal-better",
    )
    last_layer = ""
    if "allocation" in tables:
        least = book.listed(f"{count} ({rule})" for rule, count in chapter.output_weights(p).items())
        last_layer = (
            f" At the lowest density of each rule the weights of the output layer are {least}; where they "
            "are fewer than the 10 classes, some classes have none."
        )
    return {
        "rule_words": gains + say.judged(RULES) + last_layer,
        "rule_summary": say.judged(RULES, sizes=True),
    }


def _masks(p: Parameters, say: Sentences) -> dict[str, str]:
    """Patterns of masks, and masks that move."""
    patterns = say(
        f"At width {p.pattern_width}, the gain over random masks is {{}} points with a constant fan-in, "
        "{} with balanced masks and {} with blocks. ",
        *chapter.PATTERNS,
    )
    moving = say(
        "At the lowest density, the gain over static masks is {} points with SET and {} with RigL; "
        "from the highest to the lowest density, RigL's gain changes by {} points. ",
        *MOVES,
    )
    return {
        "pattern_words": patterns + say.judged(PATTERNS),
        "pattern_summary": say.judged(PATTERNS, sizes=True),
        "moving_words": moving + say.judged(MOVES),
        "moving_summary": say.judged(MOVES, sizes=True),
    }


def _parts(p: Parameters, say: Sentences) -> dict[str, str]:
    """Ensembles, and units that are split."""
    narrow, wide = min(p.split_base_widths), max(p.split_base_widths)
    ensembles = say(
        f"Over {book.counted(p.members, 'averaged network')} of width {p.base_width}, the gain is {{}} "
        f"points with one dense network of width {p.members * p.base_width} and {{}} with one sparse "
        f"network of width {p.members * chapter.middle_width(p)}. ",
        *ENSEMBLES,
    )
    splits = say(
        f"Splitting each of {book.counted(narrow, 'unit')} gains {{}} points with four parts and {{}} with "
        f"two. With four parts, this is {{}} points more than splitting each of {wide} units gains. ",
        "split-gain",
        "split-gain/split in two",
        "split-interference",
    )
    return {
        "ensemble_words": ensembles + say.judged(ENSEMBLES),
        "split_words": splits + say.judged(SPLITS),
        "parts_summary": say.judged(ENSEMBLES | SPLITS, sizes=True),
    }


def _cka(say: Sentences) -> dict[str, str]:
    """What drives CKA."""
    return {
        "cka_words": say(
            "Far away, CKA divided by equation (2) is {} (median and range). Sampling an eighth of the "
            "units of both networks changes CKA by {}. Between a layer and its first two principal "
            "components alone, CKA minus the angular Procrustes similarity is {}, which is positive by "
            "algebra (exercise 3) and in part due to the scale of angles.",
            *CKA,
        ),
        "cka_summary": say.judged(CKA, sizes=True),
    }


def scope(tables: Mapping[str, pd.DataFrame], p: Parameters) -> dict[str, str]:
    """What was trained, and what limits the comparison; arguments as those of `summary`."""
    whole = pd.concat(tables.values()).drop_duplicates("key")
    durations = [f"{book.counted(p.rate_epochs, 'epoch')} where the learning rate varies"]
    if "data" in tables:
        durations.append(f"about {book.counted(p.data_steps, 'step')} where the number of images varies")
    if set(tables) - {"rate", "smu", "data"}:
        durations.append(f"{book.counted(p.part_epochs, 'epoch')} elsewhere")
    others = {"smu": ("with SμPar", p.smu_seeds), "pattern": ("for patterns", p.pattern_seeds)}
    other_seeds = [
        f"{len(seeds)} {what}"
        for part, (what, seeds) in others.items()
        if part in tables and len(seeds) != len(p.seeds)
    ]
    at_own = chapter.at_rates(tables["rate"], chapter.own_rates(tables["rate"])).mean()
    return {
        "num_runs": book.counted(len(whole), "training"),
        "data_name": book.data_name(p.data_spec),
        "num_weights": f"{sum(experiments.weights_per_layer(p.dense(p.base_width)).values()):,}",
        "durations": book.listed(durations),
        "dense_accuracy": f"{at_own[p.base_width]:.1f}",
        "best_accuracy": f"{at_own.max():.1f}",
        "widths": book.listed(p.widths),
        "num_seeds": book.counted(len(p.seeds), "seed")
        + (f" ({', '.join(other_seeds)})" if other_seeds else ""),
        "num_diverged": book.counted(int((whole["status"] == "diverged").sum()), "run"),
        "balanced": shown(median_and_range(chapter.balanced_differs(p))),
    }
