"""Groups of classes: superclasses of CIFAR-10 and CIFAR-100, and the synsets above ImageNet's classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

CIFAR10_HYPERNYMS: dict[str, tuple[str, ...]] = {
    "airplane": ("vehicle", "craft"),
    "automobile": ("vehicle", "motor vehicle"),
    "bird": ("animal",),
    "cat": ("animal", "mammal", "carnivore"),
    "deer": ("animal", "mammal", "ungulate"),
    "dog": ("animal", "mammal", "carnivore"),
    "frog": ("animal",),
    "horse": ("animal", "mammal", "ungulate"),
    "ship": ("vehicle", "craft"),
    "truck": ("vehicle", "motor vehicle"),
}
"""CIFAR-10's classes in order, and the WordNet synsets above each that hold some of the others, too."""

CIFAR100_GROUPS: dict[str, tuple[str, ...]] = {
    "aquatic mammals": ("beaver", "dolphin", "otter", "seal", "whale"),
    "fish": ("aquarium_fish", "flatfish", "ray", "shark", "trout"),
    "flowers": ("orchid", "poppy", "rose", "sunflower", "tulip"),
    "food containers": ("bottle", "bowl", "can", "cup", "plate"),
    "fruit and vegetables": ("apple", "mushroom", "orange", "pear", "sweet_pepper"),
    "household electrical devices": ("clock", "keyboard", "lamp", "telephone", "television"),
    "household furniture": ("bed", "chair", "couch", "table", "wardrobe"),
    "insects": ("bee", "beetle", "butterfly", "caterpillar", "cockroach"),
    "large carnivores": ("bear", "leopard", "lion", "tiger", "wolf"),
    "large man-made outdoor things": ("bridge", "castle", "house", "road", "skyscraper"),
    "large natural outdoor scenes": ("cloud", "forest", "mountain", "plain", "sea"),
    "large omnivores and herbivores": ("camel", "cattle", "chimpanzee", "elephant", "kangaroo"),
    "medium-sized mammals": ("fox", "porcupine", "possum", "raccoon", "skunk"),
    "non-insect invertebrates": ("crab", "lobster", "snail", "spider", "worm"),
    "people": ("baby", "boy", "girl", "man", "woman"),
    "reptiles": ("crocodile", "dinosaur", "lizard", "snake", "turtle"),
    "small mammals": ("hamster", "mouse", "rabbit", "shrew", "squirrel"),
    "trees": ("maple_tree", "oak_tree", "palm_tree", "pine_tree", "willow_tree"),
    "vehicles 1": ("bicycle", "bus", "motorcycle", "pickup_truck", "train"),
    "vehicles 2": ("lawn_mower", "rocket", "streetcar", "tank", "tractor"),
}
"""CIFAR-100's superclasses, and the five classes of each (Krizhevsky, 2009, and the data set's page)."""

CIFAR100_CLASSES: tuple[str, ...] = tuple(sorted(name for five in CIFAR100_GROUPS.values() for name in five))
"""CIFAR-100's classes in the order of their numbers, which is that of the alphabet."""

CIFAR100_SUPERCLASSES: tuple[str, ...] = tuple(
    next(group for group, five in CIFAR100_GROUPS.items() if name in five) for name in CIFAR100_CLASSES
)
"""The superclass of each of CIFAR-100's classes, as `group_tests` takes it."""


def wordnet_groups(
    synsets: Sequence[str], *, is_a: Path | str, names: Mapping[str, str] | None = None
) -> list[tuple[str, ...]]:
    """The synset of every class and all that it descends from, as `group_tests` takes it.

    Args:
        synsets: WordNet identifiers of the classes in order, such as n02084071.
        is_a: Text file of "parent child" lines, two identifiers with white space between, such as the
            `wordnet.is_a.txt` of ImageNet. Blank lines are skipped. A synset may have several
            parents.
        names: What to call synsets in the result; those without a name keep their identifier.

    Raises:
        ValueError: If a line is not a pair, or a class does not occur in the file.

    References:
        N21, Section 7 ("descending from") and Table F.2.

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "is_a.txt")
        ...     _ = path.write_text("animal dog\\nanimal bird\\npet dog\\n")
        ...     wordnet_groups(["dog", "bird"], is_a=path, names={"animal": "living thing"})
        [('dog', 'living thing', 'pet'), ('bird', 'living thing')]
    """
    parents: dict[str, list[str]] = {}
    known = set()
    for number, line in enumerate(Path(is_a).read_text(encoding="utf-8").splitlines(), start=1):
        if not (words := line.split()):
            continue
        if len(words) != 2:
            raise ValueError(f"line {number} of {Path(is_a).name} is {line!r}; 'parent child' is allowed")
        parents.setdefault(words[1], []).append(words[0])
        known.update(words)
    if missing := [synset for synset in synsets if synset not in known]:
        raise ValueError(
            f"class {missing[0]!r} does not occur in {Path(is_a).name}; a synset of it is allowed"
        )
    called = names or {}
    groups = []
    for synset in synsets:
        above = {synset}
        waiting = [synset]
        while waiting:
            new = [p for p in parents.get(waiting.pop(), []) if p not in above]
            above.update(new)
            waiting.extend(new)
        rest = sorted({called.get(s, s) for s in above - {synset}})
        groups.append((called.get(synset, synset), *rest))
    return groups
