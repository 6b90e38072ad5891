"""The networks of both stages: a U-Net of convolution, batch norm and ReLU.

One class serves both, optionally with dilated convolutions at the coarsest level, or with neighbouring slices. The
differences are in `UNetConfig`, which is stored in the weights file.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True)
class UNetConfig:
    """Settings that must be the same in training and in inference."""

    stage: str  # {"detect", "segment"}
    channels: tuple[int, ...]  # Feature maps of each level, the finest first; each level halves the resolution
    dilations: tuple[int, ...]  # Extra 3 x 3 convolutions at the coarsest level: a wider view without more pooling
    zoom_mm: float  # mm: in-plane pixel size of the network's input
    patch_px: int  # Side of the square input: of the patch (segment) or of the training crop (detect)
    kernel: str = "2d"  # {"2d", "3d"}: slices alone, or with their neighbours along the cord (`AlongCord`)

    @property
    def reach(self) -> int:
        """Number of slices on each side on which the result of a slice depends."""
        return len(self.channels) if self.kernel == "3d" else 0

    @property
    def divisor(self) -> int:
        """Input sides must be multiples of this."""
        return 2 ** (len(self.channels) - 1)


DETECT = UNetConfig("detect", (12, 24, 48), (2, 4, 2), 1.5, 96)
"""Detector. At 1.5 mm a cord is still 7 pixels wide, and a whole 1 mm volume takes about a second. The dilated
convolutions reach 90 mm, so that the surroundings distinguish a cord from a vessel."""

SEGMENT = UNetConfig("segment", (24, 48, 96, 128), (), 0.5, 64)
"""Network for the outline: 0.5 mm pixels and patches of 32 mm, as in Gros et al. 2019. The widest cord is 15 mm; canal
and vertebral arch fit in."""


RARE_LOGIT = -4.6
"""Initial output of the detector, a probability of 1 %, the share of cord in a slice. With 50 %, training first
suppresses the rest of the slice for hundreds of steps and then finds nothing."""


class ConvBlock(nn.Sequential):
    """3 x 3 convolution, batch norm, ReLU; the size does not change."""

    def __init__(self, n_in: int, n_out: int, dilation: int = 1):
        super().__init__(
            nn.Conv2d(n_in, n_out, 3, padding=dilation, dilation=dilation, bias=False),
            nn.BatchNorm2d(n_out),
            nn.ReLU(inplace=True),
        )


NEAR_MM = 3.0
"""Distance over which the weight of a neighbour falls to 1/e: cords change shape over a disc's height, 5 mm."""


@dataclass(frozen=True)
class Neighbours:
    """Neighbours of the samples of a batch along the cord."""

    below: Tensor  # (N,) tensor of int: index of the neighbour below; a sample's own index if it has none
    above: Tensor  # (N,) tensor of int: index of the neighbour above; a sample's own index if it has none
    weight: Tensor  # (N,) tensor, 0 to 1: by the distance between slices, see `NEAR_MM`

    def to(self, device: torch.device | str) -> Neighbours:
        """Move to a device."""
        return Neighbours(self.below.to(device), self.above.to(device), self.weight.to(device))


def neighbours_in_stack(n: int, slice_mm: float) -> Neighbours:
    """Return the neighbours of n consecutive slices."""
    index = torch.arange(n)
    weight = torch.full((n,), math.exp(-slice_mm / NEAR_MM))
    return Neighbours((index - 1).clamp_min(0), (index + 1).clamp_max(n - 1), weight)


class AlongCord(nn.Module):
    """Add information from the slices below and above: a convolution along the cord, with weights that start at 0.

    Its inputs are the mean of both neighbours less the slice itself, and the size of the neighbours' difference. It
    therefore gives the same result in both directions along the cord, and treats a slice without neighbours like the
    2-D network.
    """

    def __init__(self, n_features: int):
        super().__init__()
        self.mix = nn.Conv2d(2 * n_features, n_features, 1, bias=False)
        nn.init.zeros_(self.mix.weight)

    def forward(self, features: Tensor, near: Neighbours) -> Tensor:
        """Return features (N, C, H, W)."""
        below, above = features[near.below], features[near.above]
        change = torch.cat([(below + above) / 2 - features, (below - above).abs()], dim=1)
        return features + self.mix(change * near.weight[:, None, None, None].to(change.dtype))


class UNet(nn.Module):
    """U-Net with one logit per pixel."""

    def __init__(self, config: UNetConfig):
        super().__init__()
        self.config = config
        widths = config.channels
        self.encode = nn.ModuleList(
            nn.Sequential(ConvBlock(n_in, n_out), ConvBlock(n_out, n_out))
            for n_in, n_out in zip((1, *widths[:-1]), widths, strict=True)
        )
        self.bottom = nn.Sequential(*(ConvBlock(widths[-1], widths[-1], d) for d in config.dilations))
        pairs = list(zip(widths[:0:-1], widths[-2::-1], strict=True))
        self.up = nn.ModuleList(nn.ConvTranspose2d(coarse, fine, 2, 2) for coarse, fine in pairs)
        self.decode = nn.ModuleList(
            nn.Sequential(ConvBlock(2 * fine, fine), ConvBlock(fine, fine)) for _, fine in pairs
        )
        self.along = nn.ModuleList(AlongCord(n) for n in (widths if config.kernel == "3d" else ()))
        self.head = nn.Conv2d(widths[0], 1, 1)
        if config.stage == "detect" and self.head.bias is not None:
            nn.init.constant_(self.head.bias, RARE_LOGIT)

    def forward(self, image: Tensor, near: Neighbours | None = None) -> Tensor:
        """Return logits (N, 1, H, W) of standardised slices (N, 1, H, W); H, W multiples of the divisor.

        A 3-D network without `near` treats slices as if they had no neighbours.
        """
        return self.decode_features(self.encode_slices(image, near))

    def encode_slices(self, image: Tensor, near: Neighbours | None = None) -> list[Tensor]:
        """Return the features (N, C, H / 2^level, W / 2^level) of every level, the finest first."""
        features: list[Tensor] = []
        for level, block in enumerate(self.encode):
            image = block(image if level == 0 else nn.functional.max_pool2d(image, 2))
            if self.along and near is not None:
                image = self.along[level](image, near)
            features.append(image)
        features[-1] = self.bottom(image)
        return features

    def decode_features(self, features: list[Tensor], window: Window | None = None) -> Tensor:
        """Return the logits within a window of the slices, or of the whole slices; the values are the same."""
        height, width = features[0].shape[2:]
        window = window or (slice(0, height), slice(0, width))
        *skips, image = features
        above = (0, 0)  # where `image` begins, in pixels of its level
        parts = _parts_needed(window, (height, width), len(skips))
        for up, block, skip, (rows, columns) in zip(self.up, self.decode, skips[::-1], parts[::-1], strict=True):
            coarse = image[:, :, _halve(rows, above[0]), _halve(columns, above[1])]
            image = block(torch.cat([up(coarse), skip[:, :, rows, columns]], dim=1))
            above = rows.start, columns.start
        rows, columns = (slice(w.start - a, w.stop - a) for w, a in zip(window, above, strict=True))
        return self.head(image[:, :, rows, columns])


Window = tuple[slice, slice]
"""Rows and columns of a slice, in pixels."""

BLOCK_REACH = 2
"""Reach of two 3 x 3 convolutions, in pixels."""


def _parts_needed(window: Window, size: tuple[int, int], n_levels: int) -> list[Window]:
    """Return the rows and columns of each level, finest first, on which a window depends: even, within the slice."""
    parts = []
    for level in range(n_levels):
        spans = []
        for part, n in zip(window, size, strict=True):
            start = max(0, part.start - BLOCK_REACH) // 2 * 2
            spans.append(slice(start, min(n >> level, -(-(part.stop + BLOCK_REACH) // 2) * 2)))
        parts.append((spans[0], spans[1]))
        window = _halve(spans[0]), _halve(spans[1])
    return parts


def _halve(part: slice, origin: int = 0) -> slice:
    """Return the same pixels one level coarser, counted from `origin` there."""
    return slice(part.start // 2 - origin, part.stop // 2 - origin)


def fold_batch_norm(model: UNet) -> UNet:
    """Merge each batch norm into its convolution, in place; the function is the same and a third faster."""
    for block in model.modules():
        if isinstance(block, ConvBlock):
            conv, norm = block[0], block[1]
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                block[0], block[1] = fuse_conv_bn_eval(conv, norm), nn.Identity()
    return model


def to_channels_last(model: Network) -> Network:
    """Reorder the weights of 2-D convolutions, in place, so that a pixel's channels are adjacent: faster."""
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.dim() == 4:
            tensor.data = tensor.data.to(memory_format=torch.channels_last)
    return model
