"""Random crops and mirror images of a whole batch, on its device."""

from __future__ import annotations

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
    if not augmentation.flip:
        mirrored = torch.zeros_like(mirrored)

    sources = torch.cat([images, images.flip(3)]) if augmentation.flip else images
    flat = _padded(sources, pad, augmentation.padding_mode)
    row = width + 2 * pad
    plane = (height + 2 * pad) * row
    # In the padded images laid out flat, a window is one run for each channel: `height` whole rows
    # from its first pixel on, of which the first `width` columns are the crop. All runs that start
    # anywhere, seen as one overlapping tensor, make cropping a selection of n large pieces.
    run = height * row
    starts = flat.numel() - (channels - 1) * plane - run + 1
    runs = flat.as_strided((starts, channels, run), (1, plane, 1))
    column = torch.where(mirrored, 2 * pad - offset[1], offset[1])
    first = (torch.arange(n) + n * mirrored) * channels * plane + offset[0] * row + column
    chosen = runs.index_select(0, first.to(images.device, non_blocking=True))
    return chosen.view(n, channels, height, row)[..., :width].contiguous()


def _padded(images: torch.Tensor, pad: int, mode: str) -> torch.Tensor:
    """The images with a border, laid out flat, and 2 · `pad` numbers more."""
    n, channels, height, width = images.shape
    shape = (n, channels, height + 2 * pad, width + 2 * pad)
    size = n * channels * shape[2] * shape[3]
    flat = images.new_zeros(size + 2 * pad)
    padded = flat[:size].view(shape)
    if mode == "zeros":
        padded[:, :, pad : pad + height, pad : pad + width] = images
    else:
        rows, columns = (_reflected(length, pad).to(images.device) for length in (height, width))
        padded.copy_(images.index_select(2, rows).index_select(3, columns))
    return flat


def _reflected(length: int, pad: int) -> torch.Tensor:
    """Positions along a side with `pad` more on both ends, mirrored at the outermost pixel."""
    place = torch.arange(-pad, length + pad).abs()
    return (length - 1 - (length - 1 - place).abs()).clamp(0)
