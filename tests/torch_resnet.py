"""A small ResNet in torch whose layers are named as torchvision's and timm's are."""

from collections.abc import Sequence
from typing import Any, TypeVar

import torch
from torch import nn

Network = TypeVar("Network", bound=nn.Module)

# Of bottlenecks: torchvision's and transformers'.
BRANCH_ENDS = ("bn3", "layer.2.normalization")


class Unit(nn.Module):
    """A basic unit of two convolutions, or a bottleneck of three, the stride on its 3x3."""

    def __init__(self, channels: int, filters: Sequence[int], stride: int, groups: int) -> None:
        super().__init__()
        bottleneck = len(filters) == 3
        for number, width in enumerate(filters, start=1):
            kernel = 1 if bottleneck and number != 2 else 3
            carries = number == (2 if bottleneck else 1)
            convolution = nn.Conv2d(
                channels if number == 1 else filters[number - 2],
                width,
                kernel,
                stride if carries else 1,
                kernel // 2,
                groups=groups if bottleneck and number == 2 else 1,
                bias=False,
            )
            self.add_module(f"conv{number}", convolution)
            self.add_module(f"bn{number}", nn.BatchNorm2d(width))
        self.count = len(filters)
        self.downsample = None
        if stride > 1 or channels != filters[-1]:
            self.downsample = nn.Sequential(
                nn.Conv2d(channels, filters[-1], 1, stride, bias=False),
                nn.BatchNorm2d(filters[-1]),
            )

    def forward(self, x: Any) -> Any:
        """Takes and returns maps (batch, channels, height, width)."""
        shortcut = x if self.downsample is None else self.downsample(x)
        for number in range(1, self.count + 1):
            x = getattr(self, f"bn{number}")(getattr(self, f"conv{number}")(x))
            if number < self.count:
                x = torch.relu(x)
        return torch.relu(x + shortcut)


class ResNet(nn.Module):
    """Stem, stages and classifier; widths are those of the units' convolutions, stage by stage."""

    def __init__(
        self,
        stem: int,
        blocks: Sequence[int],
        widths: Sequence[Sequence[int]],
        classes: int,
        groups: int = 1,
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, stem, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(stem)
        self.stages = []
        channels = stem
        for number, (count, filters) in enumerate(zip(blocks, widths, strict=True), start=1):
            units = []
            for index in range(count):
                stride = 2 if number > 1 and index == 0 else 1
                units.append(Unit(channels, filters, stride, groups))
                channels = filters[-1]
            self.stages.append(f"layer{number}")
            self.add_module(f"layer{number}", nn.Sequential(*units))
        self.fc = nn.Linear(channels, classes)

    def forward(self, x: Any) -> Any:
        """Takes normalised images (batch, 3, height, width) and returns logits (batch, classes)."""
        x = torch.max_pool2d(torch.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        for stage in self.stages:
            x = getattr(self, stage)(x)
        return self.fc(x.mean((2, 3)))


def as_after_training(network: Network, seed: int = 0) -> Network:
    """Gives a network random gammas and betas, and statistics about those of random images.

    Args:
        network: any torch network for images of 3 channels; it is changed.
        seed: of the random numbers.

    Returns:
        The network in evaluation mode.
    """
    random = torch.Generator().manual_seed(seed)
    normalizations = []
    for name, layer in network.named_modules():
        if not isinstance(layer, nn.BatchNorm2d):
            continue
        normalizations.append(layer)
        layer.weight.data.uniform_(0.1, 0.5, generator=random)
        if name.endswith(BRANCH_ENDS):  # small, once trained
            layer.weight.data *= 0.3
        layer.bias.data.uniform_(-0.1, 0.1, generator=random)
        layer.momentum = 1.0
    with torch.no_grad():
        network.train()(torch.randn(16, 3, 96, 96, generator=random))
    for layer in normalizations:
        deviation = layer.running_var.sqrt()
        layer.running_mean += deviation * torch.empty_like(deviation).uniform_(
            -0.3, 0.3, generator=random
        )
        layer.running_var *= torch.empty_like(deviation).uniform_(0.7, 1.5, generator=random)
    return network.eval()
