"""Augmentation: every crop of the padded image, equally likely, fixed by the seed; batches of a split."""

import pytest
import torch

import wsnlib as wsn
from wsnlib import data


@pytest.mark.parametrize("mode", ["zeros", "reflect"])
def test_crops_are_those_of_the_padded_image(mode):
    images = torch.arange(1, 5 * 7 * 6 * 2 + 1).view(2, 5, 7, 6).float()
    images = images.repeat(50, 1, 1, 1)
    crop = wsn.CropAndFlip(padding=2, padding_mode=mode)
    out = data.augment(images, crop, generator=torch.Generator().manual_seed(0))
    padding = {"zeros": "constant", "reflect": "reflect"}[mode]
    padded = torch.nn.functional.pad(images, (2, 2, 2, 2), mode=padding)
    seen = set()
    for before, after in zip(padded, out, strict=True):
        places = [
            (dy, dx, flip)
            for dy in range(5)
            for dx in range(5)
            for flip in (False, True)
            for window in [before[:, dy : dy + 7, dx : dx + 6]]
            if torch.equal(after, window.flip(2) if flip else window)
        ]
        assert places
        seen.update(places)
    assert len(seen) > 30


def test_every_crop_is_equally_likely_and_half_are_mirrored():
    draws = 5000
    images = torch.arange(35).view(1, 1, 5, 7).expand(draws, -1, -1, -1)
    out = data.augment(images, wsn.CropAndFlip(padding=2), generator=torch.Generator().manual_seed(0))
    share = out[:, 0, 2, 3].bincount(minlength=35).view(5, 7)[:, 1:6] / draws
    assert (share - 1 / 25).abs().max() < 4 * (1 / 25 * 24 / 25 / draws) ** 0.5
    mirrored = (out[:, 0, 2, 2] > out[:, 0, 2, 4]).double().mean()
    assert abs(mirrored - 1 / 2) < 4 * (1 / 4 / draws) ** 0.5


def test_augmentation_keeps_bytes_and_is_fixed_by_the_seed():
    images = torch.randint(0, 256, (9, 3, 8, 8), dtype=torch.uint8)
    a, b, c = (
        data.augment(images, wsn.CropAndFlip(), generator=torch.Generator().manual_seed(s)) for s in (0, 0, 1)
    )
    assert a.dtype == torch.uint8
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


def test_batches_follow_the_order_and_draw_an_augmentation_each():
    split = wsn.load_data(wsn.Digits(train_size=53)).train
    order = torch.randperm(len(split.labels), generator=torch.Generator().manual_seed(1))
    batches = list(split.batches(order, batch_size=7))
    assert torch.equal(torch.cat([b.images for b in batches]), split.images[order])
    assert torch.equal(torch.cat([b.labels for b in batches]), split.labels[order])
    crop = wsn.CropAndFlip(padding=3)
    found = torch.cat(
        [
            b.images
            for b in split.batches(
                order, batch_size=7, augmentation=crop, generator=torch.Generator().manual_seed(2)
            )
        ]
    )
    generator = torch.Generator().manual_seed(2)
    expected = [data.augment(split.images[i], crop, generator=generator) for i in order.split(7)]
    assert torch.equal(found, torch.cat(expected))


def test_large_padding_of_a_small_image_and_no_mirror_images():
    images = torch.arange(1, 2 * 3 * 5 + 1, dtype=torch.int32).view(1, 2, 3, 5).expand(300, -1, -1, -1)
    crop = wsn.CropAndFlip(padding=4, flip=False)
    out = data.augment(images, crop, generator=torch.Generator().manual_seed(0))
    padded = torch.nn.functional.pad(images[0], (4, 4, 4, 4))
    windows = {tuple(padded[:, y : y + 3, x : x + 5].flatten().tolist()) for y in range(9) for x in range(9)}
    assert {tuple(image.flatten().tolist()) for image in out} <= windows
    assert out.dtype == torch.int32 and out.is_contiguous()


def test_mirroring_mirrors_the_crop_that_is_drawn():
    images = torch.randint(0, 256, (101, 3, 7, 5), dtype=torch.uint8)
    before = images.clone()
    drawn, mirrored = (
        data.augment(
            images, wsn.CropAndFlip(padding=2, flip=flip), generator=torch.Generator().manual_seed(0)
        )
        for flip in (False, True)
    )
    kept = [torch.equal(a, b) for a, b in zip(drawn, mirrored, strict=True)]
    assert all(k or torch.equal(a, b.flip(2)) for k, a, b in zip(kept, drawn, mirrored, strict=True))
    assert 30 < sum(kept) < 71
    assert torch.equal(images, before)


def test_the_outermost_crops_of_the_last_image_are_drawn_too():
    image = torch.arange(1, 13).view(1, 1, 3, 4)
    generator = torch.Generator().manual_seed(0)
    crop = wsn.CropAndFlip(padding=1, flip=False)
    seen = {tuple(data.augment(image, crop, generator=generator).flatten().tolist()) for _ in range(120)}
    assert len(seen) == 9


def test_more_pixels_than_there_are_cannot_be_reflected():
    images, generator = torch.zeros(2, 1, 5, 7), torch.Generator()
    crop = wsn.CropAndFlip(padding=4, padding_mode="reflect")
    assert data.augment(images, crop, generator=generator).shape == images.shape
    crop = wsn.CropAndFlip(padding=5, padding_mode="reflect")
    with pytest.raises(ValueError, match="padding must be ≤ 4 for images of 5 x 7 .*, got 5"):
        data.augment(images, crop, generator=generator)


def test_images_in_memory_are_not_cropped_as_those_of_the_disk():
    split = wsn.load_data(wsn.Digits()).train
    with pytest.raises(
        ValueError,
        match="augmentation must be CropAndFlip or None for images in memory, got ResizedCropAndFlip",
    ):
        split.batches(torch.arange(3), batch_size=2, augmentation=wsn.ResizedCropAndFlip())
