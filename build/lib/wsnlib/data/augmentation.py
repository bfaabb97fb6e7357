"""Random crops and mirror images of a whole batch, on its device."""

from __future__ import annotations

import math

import torch

from wsnlib import specs


def augment(
    images: torch.Tensor, augmentation: specs.CropAndFlip, *, generator: torch.Generator
) -> torch.Tensor:
    """A random crop of each padded image, mirrored half of the time, on the images' device.

    Args:
        images: (n, channels, height, width), any type.
        augmentation: Padding, its mode, and whether to mirror.
        generator: On the CPU, so that one seed gives the same crops on every device.

    Raises:
        ValueError: If there are too few pixels to be reflected.

    Examples:
        >>> crop = specs.CropAndFlip(padding=0, flip=False)
        >>> x = torch.arange(9).view(1, 1, 3, 3)
        >>> torch.equal(augment(x, crop, generator=torch.Generator()), x)
        True
    """
    n, channels, height, width = images.shape
    pad = augmentation.padding
    offset = torch.randint(-pad, pad + 1, (2, n, 1), generator=generator).squeeze(2) + pad
    mirrored = torch.rand(n, 1, generator=generator).squeeze(1) < 0.5
    flat, padded = _padded(images, pad, augmentation.padding_mode)
    if augmentation.flip:
        chosen = mirrored.nonzero().squeeze(1).to(images.device, non_blocking=True)
        padded.index_copy_(0, chosen, padded.index_select(0, chosen).flip(3))
        offset[1] = torch.where(mirrored, 2 * pad - offset[1], offset[1])

    # In the padded images laid out flat, a window is one run for each channel: `height` whole rows
    # from its first pixel on, of which the first `width` columns are the crop. All runs that start
    # anywhere, seen as one overlapping tensor, make cropping a selection of n large pieces.
    row, plane = padded.stride(2), padded.stride(1)
    run = height * row
    starts = flat.numel() - (channels - 1) * plane - run + 1
    runs = flat.as_strided((starts, channels, run), (1, plane, 1))
    first = torch.arange(n) * padded.stride(0) + offset[0] * row + offset[1]
    crops = runs.index_select(0, first.to(images.device, non_blocking=True))
    return crops.view(n, channels, height, row)[..., :width].contiguous()


def _padded(images: torch.Tensor, pad: int, mode: str) -> tuple[torch.Tensor, torch.Tensor]:
    """The images with a border, laid out flat with 2 · `pad` numbers more, and as images."""
    n, channels, height, width = images.shape
    shape = (n, channels, height + 2 * pad, width + 2 * pad)
    flat = images.new_zeros(math.prod(shape) + 2 * pad)
    padded = flat[: math.prod(shape)].view(shape)
    padded[:, :, pad : pad + height, pad : pad + width] = images
    if mode == "reflect":
        if pad >= min(height, width):
            raise ValueError(
                f"padding is {pad} and padding_mode 'reflect' for images of {height} x {width}; "
                f"at most {min(height, width) - 1} is allowed"
            )
        padded[..., :pad] = padded[..., pad + 1 : 2 * pad + 1].flip(3)
        padded[..., pad + width :] = padded[..., width - 1 : width + pad - 1].flip(3)
        padded[:, :, :pad] = padded[:, :, pad + 1 : 2 * pad + 1].flip(2)  # whole rows, the corners too
        padded[:, :, pad + height :] = padded[:, :, height - 1 : height + pad - 1].flip(2)
    return flat, padded
