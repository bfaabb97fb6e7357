"""Networks without the last residual blocks of a stage."""

from __future__ import annotations

import torch
from torch import nn

from wsnlib.representations.reading import read


def logits_without_ends(model: nn.Module, images: torch.Tensor) -> dict[tuple[str, ...], torch.Tensor]:
    """What a network gives without the last blocks of one stage, for every stage and number of them.

    Without its last blocks a stage gives what the block before them gave, whose shortcuts are identities:
    what comes before is computed once.

    Args:
        model: Children in a row, of which the stages are `nn.Sequential`s of residual blocks, as in
            [`ResNetCifar`][wsnlib.models.resnet_cifar.ResNetCifar]; there is nothing to delete if a block
            has no residual connection.
        images: As the model takes them.

    Returns:
        Outputs (n, classes) by the names of the deleted blocks: of each stage the last, the last two, …, all
        but the first.

    References:
        N21, Section 5.2 and Figure 5.

    Examples:
        >>> from wsnlib.models import ResNetCifar
        >>> net = ResNetCifar(14).eval()
        >>> list(logits_without_ends(net, torch.rand(2, 3, 8, 8)))
        [('stage1.block2',), ('stage2.block2',), ('stage3.block2',)]
    """
    children = list(model.named_children())
    found: dict[tuple[str, ...], torch.Tensor] = {}
    with read(model, [], lambda name, x: None):
        x = images
        for position, (stage, child) in enumerate(children):
            blocks = list(child.named_children()) if isinstance(child, nn.Sequential) else []
            if not all(getattr(block, "residual", False) for _, block in blocks):
                return {}
            shorter = {}
            for number, (_, block) in enumerate(blocks, start=1):
                x = block(x)
                if number < len(blocks):
                    shortened = x
                    for _, later in children[position + 1 :]:
                        shortened = later(shortened)
                    shorter[tuple(f"{stage}.{name}" for name, _ in blocks[number:])] = shortened
            found |= dict(reversed(shorter.items()))
            if not blocks:
                x = child(x)
    return found
