"""Turn a sampled person into an MR image: intensities, shading, blur, ghosts and noise of each contrast."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import fft, special

from spineseg.phantom.sampling import Sample
from spineseg.phantom.tissues import CORD_TISSUES, N_TISSUES, Tissue

# Relative intensities at 3 T; cerebrospinal fluid (T2w, T2star) or fat (T1w) is about 1. They were set by comparison
# with images of the spine-generic protocol. dwi: the b = 0 image with fat suppressed.
_INTENSITY = {
    "T1w": {
        "AIR": 0.01, "SKIN": 0.5, "FAT": 0.95, "MUSCLE": 0.5, "MARROW": 0.38, "CORTICAL_BONE": 0.09, "DISC": 0.45,
        "ANNULUS": 0.28, "LIGAMENT": 0.2, "EPIDURAL": 0.6, "DURA": 0.25, "CSF": 0.2, "WHITE_MATTER": 0.8,
        "GREY_MATTER": 0.68, "ROOT": 0.5, "GANGLION": 0.5, "AIRWAY": 0.01, "MUCOSA": 0.5, "VESSEL": 0.25,
        "GLAND": 0.55, "BRAINSTEM": 0.78, "BRAIN_GREY": 0.6, "BRAIN_WHITE": 0.85, "LUNG": 0.04, "LESION": 0.6,
    },
    "T2w": {
        "AIR": 0.01, "SKIN": 0.3, "FAT": 0.6, "MUSCLE": 0.17, "MARROW": 0.3, "CORTICAL_BONE": 0.05, "DISC": 0.45,
        "ANNULUS": 0.14, "LIGAMENT": 0.09, "EPIDURAL": 0.42, "DURA": 0.15, "CSF": 1.0, "WHITE_MATTER": 0.4,
        "GREY_MATTER": 0.48, "ROOT": 0.5, "GANGLION": 0.5, "AIRWAY": 0.01, "MUCOSA": 0.4, "VESSEL": 0.08,
        "GLAND": 0.4, "BRAINSTEM": 0.41, "BRAIN_GREY": 0.55, "BRAIN_WHITE": 0.4, "LUNG": 0.03, "LESION": 0.65,
    },
    "T2star": {
        "AIR": 0.01, "SKIN": 0.5, "FAT": 0.42, "MUSCLE": 0.52, "MARROW": 0.13, "CORTICAL_BONE": 0.05, "DISC": 0.5,
        "ANNULUS": 0.35, "LIGAMENT": 0.25, "EPIDURAL": 0.5, "DURA": 0.45, "CSF": 1.0, "WHITE_MATTER": 0.56,
        "GREY_MATTER": 0.74, "ROOT": 0.65, "GANGLION": 0.8, "AIRWAY": 0.01, "MUCOSA": 0.5, "VESSEL": 1.05,
        "GLAND": 0.65, "BRAINSTEM": 0.6, "BRAIN_GREY": 0.75, "BRAIN_WHITE": 0.6, "LUNG": 0.02, "LESION": 0.8,
    },
    "dwi": {
        "AIR": 0.01, "SKIN": 0.1, "FAT": 0.1, "MUSCLE": 0.28, "MARROW": 0.1, "CORTICAL_BONE": 0.04, "DISC": 0.3,
        "ANNULUS": 0.15, "LIGAMENT": 0.1, "EPIDURAL": 0.15, "DURA": 0.3, "CSF": 1.4, "WHITE_MATTER": 0.62,
        "GREY_MATTER": 0.7, "ROOT": 0.6, "GANGLION": 0.65, "AIRWAY": 0.01, "MUCOSA": 0.35, "VESSEL": 0.05,
        "GLAND": 0.5, "BRAINSTEM": 0.65, "BRAIN_GREY": 0.8, "BRAIN_WHITE": 0.65, "LUNG": 0.02, "LESION": 0.8,
    },
    # saturated fat and long echo time: little but the fluid is bright
    "bold": {
        "AIR": 0.01, "SKIN": 0.1, "FAT": 0.05, "MUSCLE": 0.22, "MARROW": 0.05, "CORTICAL_BONE": 0.03, "DISC": 0.18,
        "ANNULUS": 0.1, "LIGAMENT": 0.08, "EPIDURAL": 0.2, "DURA": 0.3, "CSF": 1.0, "WHITE_MATTER": 0.47,
        "GREY_MATTER": 0.55, "ROOT": 0.5, "GANGLION": 0.4, "AIRWAY": 0.01, "MUCOSA": 0.25, "VESSEL": 0.35,
        "GLAND": 0.35, "BRAINSTEM": 0.5, "BRAIN_GREY": 0.6, "BRAIN_WHITE": 0.5, "LUNG": 0.02, "LESION": 0.6,
    },
}  # fmt: skip
_INTENSITY["STIR"] = _INTENSITY["T2w"] | {"FAT": 0.04, "MARROW": 0.1, "EPIDURAL": 0.12, "SKIN": 0.1}
_EPI_FLUID = (0.68, 1.15)  # brightness of the fluid in echo-planar means, cord 0.47: echo time and flow differ
# Diffusivity along and across the cord, 1e-3 mm²/s (cord: about 1.8 and 0.35 in vivo). Free water has 2.9 at 37 °C;
# pulsation takes more signal from the fluid, which is black in trace images.
_DIFFUSIVITY = {
    "CSF": (3.6, 3.6), "WHITE_MATTER": (1.8, 0.35), "GREY_MATTER": (1.2, 0.7), "BRAINSTEM": (1.5, 0.5),
    "ROOT": (1.6, 0.8), "GANGLION": (1.4, 1.1), "MUSCLE": (1.9, 1.4), "GLAND": (1.2, 1.2), "DISC": (1.7, 1.7),
    "MUCOSA": (1.6, 1.6), "FAT": (0.1, 0.1), "SKIN": (0.5, 0.5),
}  # fmt: skip
# Standard deviation of the tissue's own texture, relative to its intensity.
_TEXTURE = {
    "MUSCLE": 0.11, "FAT": 0.08, "MARROW": 0.13, "EPIDURAL": 0.2, "LIGAMENT": 0.2, "MUCOSA": 0.15, "GLAND": 0.12,
    "SKIN": 0.12, "DISC": 0.08, "BRAIN_GREY": 0.05, "LUNG": 0.4, "WHITE_MATTER": 0.02, "GREY_MATTER": 0.02,
}  # fmt: skip
_TISSUE_SPREAD = 0.07  # between people and scanners, standard deviation of the logarithm
# Cord signal to noise, part of k-space that is kept, ghost amplitude.
_QUALITY = {
    "T1w": (17.0, 0.92, 0.012), "T2w": (22.0, 0.90, 0.015), "T2star": (19.0, 0.94, 0.020), "dwi": (12.0, 0.80, 0.030),
    "bold": (35.0, 0.78, 0.050), "STIR": (16.0, 0.88, 0.015),
}  # fmt: skip
NECK_COIL = (-70.0, 60.0)  # mm: middle along the cord, and the distance over which brightness falls by a fifth
LOW_SNR_FACTOR = 0.28  # hard subjects with low signal to noise
_DISPLAY_SCALE = 600.0  # integer units of intensity 1: noise then spans tens of units, as on scanners
B_VALUES = (0, 0, 800, 800, 800, 0, 800, 800, 800)  # s/mm²; three b = 0 among six directions keep files small
_DIRECTIONS = np.array(
    [
        (0, 0, 0),
        (0, 0, 0),
        (0.85, 0, 0.53),
        (0.53, 0.85, 0),
        (0, 0.53, 0.85),
        (0, 0, 0),
        (-0.85, 0, 0.53),
        (0.53, -0.85, 0),
        (0, -0.53, 0.85),
    ]
)  # fmt: skip - the icosahedron's six axes


@dataclass(frozen=True)
class CsfLoss:
    """Fluid that looks like cord on one side of it.

    The side is an angle (rad from the right, to the front); position and half-length along the cord are in mm;
    the strength is from 0 to 1.
    """

    angle: float
    s_mm: float
    length_mm: float
    strength: float


@dataclass(frozen=True)
class ContrastParams:
    """Appearance of tissues in one acquisition; drawn by `draw_contrast`.

    Parameters
    ----------
    intensity : (n_tissues, n_volumes) ndarray of float32
        Mean intensity of each tissue in each volume (one volume but for dwi).
    snr : float
        Cord signal over the standard deviation of the noise, in the first volume.
    kept : float, 0 to 1
        Fraction of k-space acquired along each in-plane axis; below 1 the image blurs and rings.
    ghost : float
        Amplitude of the ghost at half the field of view, relative.
    bias : (6,) ndarray
        Coefficients of the logarithm of the shading, see `_shading`.
    flow : float
        Relative depth of the dark patches that flow causes in the fluid.
    jitter_vox : (n_volumes, 2) ndarray, voxels
        Shift of each volume in plane.
    csf_loss : CsfLoss or None
        Set for people with the difficulty ``csf_loss``.
    """

    intensity: np.ndarray
    snr: float
    kept: float
    ghost: float
    bias: np.ndarray
    flow: float
    jitter_vox: np.ndarray
    csf_loss: CsfLoss | None


def draw_contrast(rng: np.random.Generator, suffix: str, hard: str = "none") -> ContrastParams:
    """Draw the appearance of tissues in an acquisition of one person.

    Parameters
    ----------
    rng : np.random.Generator
        Source of randomness.
    suffix : {"T1w", "T2w", "T2star", "dwi", "bold", "STIR"}
        Contrast.
    hard : str, default "none"
        A name of `spineseg.phantom.dataset.HARD_CASES` or `LOWER_CASES`; `degenerated`, `csf_loss`, `low_snr` and
        `touching` change the contrast.

    Returns
    -------
    ContrastParams
    """
    base = np.array([_INTENSITY[suffix][t.name] for t in Tissue], dtype=np.float64)
    spread = np.clip(rng.normal(0, _TISSUE_SPREAD, N_TISSUES), -2 * _TISSUE_SPREAD, 2 * _TISSUE_SPREAD)
    intensity = base * np.exp(spread)
    if hard == "touching" and suffix == "T1w":  # wall and fat as bright as the cord they touch
        level = intensity[Tissue.WHITE_MATTER]
        intensity[[Tissue.DURA, Tissue.EPIDURAL, Tissue.LIGAMENT]] = level * rng.uniform(0.9, 1.15, 3)
    if suffix == "bold":
        intensity[Tissue.CSF] = rng.uniform(*_EPI_FLUID)
    if hard == "degenerated":  # dry discs
        intensity[Tissue.DISC] = intensity[Tissue.ANNULUS] * rng.uniform(0.9, 1.4)
    volumes = intensity[:, None]
    if suffix == "dwi":
        volumes = volumes * _attenuation()
    snr, kept, ghost = _QUALITY[suffix]
    snr *= rng.uniform(0.85, 1.25) * (LOW_SNR_FACTOR if hard == "low_snr" else 1.0)
    loss = CsfLoss(rng.uniform(0, 2 * np.pi), rng.uniform(-95, -55), rng.uniform(22, 38), rng.uniform(0.85, 1.0))
    return ContrastParams(
        intensity=volumes.astype(np.float32),
        snr=float(snr),
        kept=float(kept * rng.uniform(0.95, 1.02)),
        ghost=float(ghost * rng.uniform(0.3, 1.5)),
        # The coil lies behind the neck: the front is darker. Ends of the field of view fade.
        bias=rng.normal([0.0, -0.45, 0.05, -0.1, -0.12, -0.25], [0.12, 0.12, 0.12, 0.06, 0.06, 0.1]),
        flow=float(rng.uniform(0.02, 0.10)),
        jitter_vox=rng.normal(0, 0.08, (volumes.shape[1], 2)) * (suffix == "dwi"),
        csf_loss=loss if hard == "csf_loss" else None,
    )


def _attenuation() -> np.ndarray:
    """Signal left by diffusion, (n_tissues, n_volumes); fibres run along the world's z axis."""
    along, across = np.array([_DIFFUSIVITY.get(t.name, (0.9, 0.9)) for t in Tissue]).T
    weight = np.asarray(_DIRECTIONS)[:, 2] ** 2
    diffusivity = across[:, None] + (along - across)[:, None] * weight
    return np.exp(-1e-3 * diffusivity * np.asarray(B_VALUES))


def property_table(contrast: ContrastParams) -> np.ndarray:
    """Properties to sample: the intensity in each volume, texture, fluid, cord; (n_tissues, n_volumes + 3)."""
    texture = np.array([_TEXTURE.get(t.name, 0.0) for t in Tissue])
    fluid = np.isin(list(Tissue), [Tissue.CSF])
    cord = np.isin(list(Tissue), CORD_TISSUES)
    return np.column_stack([contrast.intensity, texture, fluid, cord]).astype(np.float32)


def render(
    sample: Sample,
    contrast: ContrastParams,
    thick_axis: int | None,
    rng: np.random.Generator,
    fading: Callable[[np.ndarray], np.ndarray] | None = None,
    coil: tuple[float, float] = NECK_COIL,
) -> np.ndarray:
    """Make the image of a sampled person.

    Parameters
    ----------
    sample : Sample
        Sampled with `property_table(contrast)`.
    contrast : ContrastParams
        How tissues look.
    thick_axis : {0, 1, 2} or None
        Slice axis of a 2-D acquisition; None for 3-D.
    rng : np.random.Generator
        Source of noise and ghosts.
    fading : callable, optional
        Takes the fluid fraction of each voxel, (n,), and returns a factor for its brightness, for field effects.
    coil : (float, float), mm
        Position of the coil's middle along the cord, and the distance over which its brightness falls.

    Returns
    -------
    (X, Y, Z, n_volumes) ndarray of int16
        Magnitude image.
    """
    n_volumes = contrast.intensity.shape[1]
    image = sample.means[:, :n_volumes].copy()
    texture, fluid = sample.means[:, n_volumes], sample.means[:, n_volumes + 1]
    image *= (1 + texture * (0.8 * sample.fine + 0.6 * sample.coarse))[:, None]
    patches = contrast.flow * np.clip(sample.coarse, -2, 0.5)
    cord_level, csf_level = contrast.intensity[Tissue.WHITE_MATTER], contrast.intensity[Tissue.CSF]
    image += (fluid * patches)[:, None] * csf_level
    if contrast.csf_loss is not None:
        image += (fluid * _loss_weight(sample, contrast.csf_loss))[:, None] * (cord_level - csf_level)
    image *= _shading(sample, contrast.bias, coil)[:, None]
    if fading is not None:
        image *= fading(fluid)[:, None].astype(np.float32)
    image = image.reshape(*sample.shape, n_volumes)
    sigma = float(cord_level[0]) / contrast.snr
    for volume in range(n_volumes):
        image[..., volume] = _acquire(image[..., volume], contrast, volume, thick_axis, sigma, rng)
    return np.clip(image * _DISPLAY_SCALE, 0, 32767).astype(np.int16)


def _loss_weight(sample: Sample, loss: CsfLoss) -> np.ndarray:
    """Return the degree to which the fluid of each voxel looks like cord; (n,), 0 to 1, smooth."""
    towards = sample.u * np.cos(loss.angle) + sample.v * np.sin(loss.angle)
    along = loss.length_mm - np.abs(sample.s - loss.s_mm)
    return loss.strength * special.expit((towards - 1.0) / 0.8) * special.expit(along / 3.0)


def _shading(sample: Sample, bias: np.ndarray, coil: tuple[float, float]) -> np.ndarray:
    """Smooth shading (n,) of the coil: exponential of a polynomial in the cord's frame, 60 mm as the unit in plane."""
    x, y, z = sample.u / 60, sample.v / 60, (sample.s - coil[0]) / coil[1]
    return np.exp(bias[0] * x + bias[1] * y + bias[2] * z + bias[3] * x * x + bias[4] * y * y + bias[5] * z * z).astype(
        np.float32
    )


def _acquire(image, contrast: ContrastParams, volume: int, thick_axis: int | None, sigma: float, rng) -> np.ndarray:
    """Pass one volume (X, Y, Z) through k-space, then add the ghost and Rician noise."""
    in_plane = [axis for axis in range(3) if axis != thick_axis]
    spectrum = fft.fftn(image, axes=in_plane)
    for axis, shift in zip(in_plane[:2], contrast.jitter_vox[volume], strict=True):
        frequency = fft.fftfreq(image.shape[axis])
        phase = np.exp(-2j * np.pi * frequency * shift)
        spectrum *= _along(phase.astype(np.complex64), axis)
    for axis in in_plane:
        # A window with a soft edge leaves some ringing, as in scanner images.
        edge = 0.5 * contrast.kept - np.abs(fft.fftfreq(image.shape[axis]))
        spectrum *= _along(np.clip(edge / 0.12 + 0.5, 0, 1).astype(np.float32), axis)
    blurred = fft.ifftn(spectrum, axes=in_plane).real.astype(np.float32)
    phase_axis = in_plane[-1]
    ghost = np.roll(blurred, image.shape[phase_axis] // 2, axis=phase_axis)
    strength = contrast.ghost * np.ones(image.shape[thick_axis if thick_axis is not None else 0])
    strength = strength * rng.uniform(0.3, 1.7, strength.shape)  # each slice has its own motion
    gain = rng.normal(1, 0.015 if thick_axis is not None else 0.0, strength.shape)
    axis = thick_axis if thick_axis is not None else 0
    real = blurred * _along(gain.astype(np.float32), axis) + ghost * _along(strength.astype(np.float32), axis)
    real += sigma * rng.standard_normal(image.shape, dtype=np.float32)
    return np.hypot(real, sigma * rng.standard_normal(image.shape, dtype=np.float32))


def _along(values: np.ndarray, axis: int) -> np.ndarray:
    """Shape a vector so that it multiplies a 3-D array along one axis."""
    return values.reshape([-1 if i == axis else 1 for i in range(3)])


def bvec_lines(affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return b-values (n,) in s/mm² and unit gradient directions (3, n) in the axes of the image.

    By the convention of FSL the first axis is flipped where the affine's determinant is positive.
    """
    rotation = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    norms = np.linalg.norm(_DIRECTIONS, axis=1, keepdims=True)
    vectors = rotation.T @ (_DIRECTIONS / np.where(norms > 0, norms, 1)).T
    if np.linalg.det(affine[:3, :3]) > 0:
        vectors[0] *= -1
    return np.asarray(B_VALUES), vectors
