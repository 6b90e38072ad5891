"""The networks of SCT's deepseg_sc, with the constants that SCT uses around them.

One class builds all three kinds: the dilated U-Net that finds the cord, and the plain 2-D and 3-D U-Nets that
outline it. The widths and depths come from the weights file (`spineseg.deepseg.sct.weights`).

References
----------
.. [1] Gros et al., 2019, Automatic segmentation of the spinal cord and intramedullary multiple sclerosis
   lesions with convolutional neural networks, NeuroImage 184, doi:10.1016/j.neuroimage.2018.09.081.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

BN_EPS = 1e-3
"""Keras's default, with which the networks were trained; torch's is 1e-5."""

ZOOM_MM = 0.5
"""In-plane pixel size of every network's input."""

SCALE_TOP = 255.0
"""The range from the 2nd to the 98th percentile of intensity is scaled to 0 to this value."""

PERCENTILES = (2, 98)

DETECT_MOMENTS = {
    "t2": (51.1417, 57.4408),
    "t2s": (68.8591, 71.4659),
    "t1": (55.7359, 64.3149),
    "dwi": (55.744, 45.003),
}
"""Mean and standard deviation of the training images, with which scaled slices are standardised before detection (from
SCT)."""

SEGMENT_3D_MOMENTS = {"t2": (65.8562, 59.7999), "t2s": (87.0212, 64.425), "t1": (88.5001, 66.275)}
"""The same for the 3-D networks (there is none for dwi); the 2-D networks take the scaled values unchanged."""

THRESHOLDS = {"t1": 0.15, "t2": 0.7, "t2s": 0.89, "dwi": 0.01}
"""SCT's defaults, which make areas agree between contrasts."""

CHUNK_SLICES = 48
"""Slices of one input of a 3-D network."""


@dataclass(frozen=True)
class SctConfig:
    """Architecture of a network, and the images for which it was trained."""

    stage: str  # {"detect", "segment"}
    kernel: str  # {"2d", "3d"}
    contrast: str  # {"t1", "t2", "t2s", "dwi"}: of the training images; decides constants and threshold
    base: int  # Feature maps of the first convolution
    depth: int  # Number of poolings
    n_middle: int  # Convolutions below the last pooling

    @property
    def has_norm(self) -> bool:
        """Batch norm follows each convolution, except in the 2-D networks that outline."""
        return self.stage == "detect" or self.kernel == "3d"

    @property
    def divisor(self) -> int:
        """Input sides must be multiples of this."""
        return 2**self.depth

    @property
    def patch_px(self) -> int:
        """Side of the patch around the cord; SCT uses larger ones for T2* in 3-D."""
        return 96 if (self.kernel, self.contrast) == ("3d", "t2s") else 64

    @property
    def moments(self) -> tuple[float, float]:
        """Mean and standard deviation for standardising scaled values; (0, 1) for the 2-D networks that outline."""
        if self.stage == "detect":
            return DETECT_MOMENTS[self.contrast]
        return SEGMENT_3D_MOMENTS[self.contrast] if self.kernel == "3d" else (0.0, 1.0)


class SctBlock(nn.Sequential):
    """3 x 3 (x 3) convolution, batch norm if the network has it, ReLU; the size does not change."""

    def __init__(self, n_in: int, n_out: int, config: SctConfig, dilation: int = 1):
        conv, norm = (nn.Conv3d, nn.BatchNorm3d) if config.kernel == "3d" else (nn.Conv2d, nn.BatchNorm2d)
        super().__init__(
            conv(n_in, n_out, 3, padding=dilation, dilation=dilation),
            norm(n_out, eps=BN_EPS) if config.has_norm else nn.Identity(),
            nn.ReLU(inplace=True),
        )


class SctUNet(nn.Module):
    """U-Net with one logit per pixel, its blocks registered in the order in which Keras numbers the layers.

    Notes
    -----
    Detection: the second convolution of each level is dilated by 2, those in the middle by 1, 2, 4, ... .
    3-D: each level doubles its feature maps in its second convolution, and up-sampling repeats voxels.
    """

    def __init__(self, config: SctConfig):
        super().__init__()
        self.config = config
        is_3d, is_detect = config.kernel == "3d", config.stage == "detect"
        firsts = [config.base * 2**level for level in range(config.depth + 1)]
        widths = [2 * n for n in firsts] if is_3d else firsts
        inputs = [1, *widths[:-1]]
        self.encode = nn.ModuleList(
            nn.Sequential(
                SctBlock(inputs[level], firsts[level], config),
                SctBlock(firsts[level], widths[level], config, 2 if is_detect else 1),
            )
            for level in range(config.depth)
        )
        middle = [inputs[-1], firsts[-1], *[widths[-1]] * (config.n_middle - 1)]
        self.middle = nn.Sequential(
            *(SctBlock(middle[n], middle[n + 1], config, 2**n if is_detect else 1) for n in range(config.n_middle))
        )
        pairs = list(zip(widths[:0:-1], widths[-2::-1], strict=True))
        self.up = nn.ModuleList(
            nn.Upsample(scale_factor=2) if is_3d else nn.ConvTranspose2d(coarse, fine, 2, 2) for coarse, fine in pairs
        )
        self.decode = nn.ModuleList(
            nn.Sequential(
                SctBlock((coarse if is_3d else fine) + fine, fine, config),
                SctBlock(fine, fine, config),
            )
            for coarse, fine in pairs
        )
        self.head = (nn.Conv3d if is_3d else nn.Conv2d)(widths[0], 1, 1)

    def blocks(self) -> list[SctBlock]:
        """Return the convolution blocks in Keras's order."""
        return [block for block in self.modules() if isinstance(block, SctBlock)]

    def forward(self, image: Tensor) -> Tensor:
        """Return logits (N, 1, H, W[, D]) of scaled input of that shape; sides are multiples of the divisor."""
        pool = nn.functional.max_pool3d if self.config.kernel == "3d" else nn.functional.max_pool2d
        skips: list[Tensor] = []
        for block in self.encode:
            image = block(image)
            skips.append(image)
            image = pool(image, 2)
        image = self.middle(image)
        for up, block in zip(self.up, self.decode, strict=True):
            image = block(torch.cat([up(image), skips.pop()], dim=1))
        return self.head(image)


def fold_sct_norm(model: SctUNet) -> SctUNet:
    """Merge each batch norm into its convolution, in place; the function is the same and faster."""
    for block in model.blocks():
        conv, norm = block[0], block[1]
        if isinstance(conv, nn.Conv2d | nn.Conv3d) and isinstance(norm, nn.BatchNorm2d | nn.BatchNorm3d):
            block[0], block[1] = fuse_conv_bn_eval(conv, norm), nn.Identity()
    return model
