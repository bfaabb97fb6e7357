"""The chapter on the layers of one's own networks: its parameters; it trains nothing."""

from __future__ import annotations

import numpy as np
import torch
from pydantic import Field

from wsnlib.book.engine import parameters as fields


class Parameters(fields.ChapterParameters):
    """Parameters of the chapter `your_layers`, which trains nothing."""

    networks: list[str] = Field(
        ["resnet18", "squeezenet1_1"],
        min_length=2,
        max_length=2,
        description="the names of two classification models of torchvision",
    )
    num_images: int = Field(128, ge=32, description="a number of patches ≥ 32")
    size: int = Field(
        32, ge=32, le=427, description="the height and width of a patch in pixels, 32 to 427, a photograph's"
    )
    batch_size: int = Field(16, ge=4, description="images in a batch, ≥ 4")
    passes: fields.PositiveInt = 2
    seed: fields.NonNegativeInt = 0


def patches(count: int, size: int, *, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Square patches of scikit-learn's two photographs, at random places, without mean colour, of contrast 1.

    Returns:
        Patches (count, 3, size, size) of the default precision, and of which photograph each is.

    Examples:
        >>> x, y = patches(6, 32, seed=0)
        >>> x.shape, sorted(set(y.tolist()))
        (torch.Size([6, 3, 32, 32]), [0, 1])
    """
    from sklearn.datasets import load_sample_images

    photographs = load_sample_images().images  # uint8 (height, width, 3)
    rng = np.random.default_rng(seed)
    which = rng.integers(len(photographs), size=count)
    found = []
    for chosen in which:
        photograph = photographs[chosen]
        top, left = (rng.integers(length - size + 1) for length in photograph.shape[:2])
        found.append(photograph[top : top + size, left : left + size])
    pixels = torch.from_numpy(np.stack(found)).permute(0, 3, 1, 2)
    x = pixels.to(torch.get_default_dtype()) / 255
    x = x - x.mean((2, 3), keepdim=True)
    contrast = x.std((1, 2, 3), keepdim=True).clamp(min=1 / 255)
    return x / contrast, torch.from_numpy(which)
