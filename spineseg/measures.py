"""Every measure, defined once: name, words, unit, whether higher values are better, and its source.

The columns of the study's tables, the decision's endpoints, the report, the quality-control page and the table in the
docs use these definitions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from spineseg.errors import InputError


@dataclass(frozen=True)
class Measure:
    """One measure.

    Parameters
    ----------
    name : str
        Column of the tables.
    words : str
        Short name for people.
    unit : str
        Empty for counts, shares and scores.
    higher_is_better : bool or None
        None if neither direction is better.
    decimals : int
        Decimals in pages and texts; tables have six significant digits.
    source : str
        What it is computed from, a key of `SOURCES`.
    meaning : str
        Definition for the docs.
    """

    name: str
    words: str
    unit: str
    higher_is_better: bool | None
    decimals: int
    source: str
    meaning: str

    @property
    def heading(self) -> str:
        """Words with unit."""
        return f"{self.words}, {self.unit}" if self.unit else self.words


SOURCES = {
    "mask": "the mask alone",
    "masks": "the masks of all methods",
    "method": "the method's own uncertainty",
    "copies": "the method's masks of slightly changed copies of the image",
    "image": "mask and image",
    "evidence": "mask and image",
    "reference": "mask and reference",
    "images": "the images of one person",
    "process": "the segmentation's process",
}

_MEASURES = (
    Measure("n_slices", "slices with cord", "", None, 0, "mask", "axial slices that hold cord"),
    Measure("coverage", "coverage of the cord", "", True, 3, "masks",
            "share of the slices between the first and last that any method found, 0 to 1"),
    Measure("n_gaps", "gaps", "", False, 1, "mask", "interruptions of the mask"),
    Measure("longest_gap_mm", "longest gap", "mm", False, 1, "mask", "the longest interruption"),
    Measure("n_components", "separate pieces", "", False, 1, "mask", "connected parts"),
    Measure("largest_fraction", "share of the largest piece", "", True, 3, "mask",
            "share of voxels in the largest part, 0 to 1"),
    Measure("csa_mean_mm2", "mean CSA", "mm²", None, 1, "mask",
            "cross-sectional area, corrected for the angle between cord and slice, mean over slices"),
    Measure("csa_sd_mm2", "SD of the CSA along the cord", "mm²", None, 1, "mask", "its standard deviation over slices"),
    Measure("csa_roughness", "roughness of the CSA along the cord", "mm⁻²", False, 3, "mask",
            "robust spread of the second difference of log CSA along the cord"),
    Measure("centre_roughness", "roughness of the centre line", "mm", False, 3, "mask",
            "spread of the slice centres about a smooth curve"),
    Measure("plausible", "share of plausible slices", "", True, 3, "mask",
            "share of slices with a size and shape within the limits of the config key `plausible`, 0 to 1"),
    Measure("dice", "Dice with the reference", "", True, 3, "reference",
            "overlap with the reference, in the slices that the reference labels, 0 to 1"),
    Measure("hd95_mm", "95th percentile of the surface distance (HD95)", "mm", False, 2, "reference",
            "95th percentile of the surface distances"),
    Measure("assd_mm", "mean surface distance", "mm", False, 2, "reference", "mean of the surface distances"),
    Measure("nsd", "surface within the tolerance of the reference (NSD)", "", True, 3, "reference",
            "share of both surfaces within a tolerance of each other, 0 to 1"),
    Measure("csa_error_pct", "CSA error against the reference", "%", None, 1, "reference",
            "error of the mean CSA against the reference"),
    Measure("perturb_dice", "Dice with itself on slightly changed images", "", True, 3, "copies",
            "how far the method agrees with itself on slightly changed copies of the image, 0 to 1; pilot only, where"
            " `decision.perturbations` asks for it"),
    Measure("perturb_csa_cv", "CoV of the CSA over slightly changed images", "%", False, 2, "copies",
            "the same of the mean CSA"),
    Measure("uncertainty", "the method's own uncertainty", "", False, 3, "method",
            "mean over slices, 0 sure to 1 a guess; by slice in `slices.tsv.gz`"),
    Measure("predicted_dice", "predicted Dice", "", True, 3, "image", "Dice as predicted without a reference, 0 to 1"),
    Measure("predicted_dice_low", "predicted Dice, lower end", "", True, 3, "image", "lower end of its 90 % interval"),
    Measure("predicted_dice_high", "predicted Dice, upper end", "", True, 3, "image", "upper end of its 90 % interval"),
    Measure("flagged", "share of images flagged for a look", "", False, 2, "image",
            "1: the mask is probably wrong; look at it first"),
    *(Measure(name, name.replace("_", " "), unit, better, 3, "evidence", f"evidence behind the prediction: {meaning}")
      for name, unit, better, meaning in (
          ("network_dice", "", True, "expected Dice by deepseg's network on the mirror image"),
          ("network_overlap", "", True, "Dice with that network's own mask"),
          ("network_ceiling", "", True, "expected Dice of that network's own mask"),
          ("network_area", "", None, "ln of the volume over that of the network's mask"),
          ("network_worst", "", True, "tenth percentile over slices of the expected Dice"),
          ("network_sees", "", True, "share of slices in which the network sees cord"),
          ("extent", "", True, "slices with mask over those that hold cord"),
          ("line_distance_mm", "mm", False, "median distance from OptiC's centerline"),
          ("line_away", "", False, "share of slices far from OptiC's centerline"),
          ("line_coverage", "", True, "share of that centerline's slices with mask"),
          ("edge_dice", "", True, "overlap with the sections that the image's edges enclose"),
          ("edge_offset_mm", "mm", None, "median distance outwards from the contour to the edge"),
          ("edge_spread_mm", "mm", False, "robust SD of these distances"),
          ("edge_share", "", True, "share of the contour close to its edge"),
          ("contrast_to_noise", "", True, "contrast of the surroundings over the noise inside"),
          ("contrast_consistency", "", True, "share of slices with that contrast"),
          ("ring_spread", "", False, "spread in the surroundings over the contrast"),
          ("symmetry", "", True, "overlap of the sections with their mirror images"),
          ("steadiness", "", True, "overlap of the sections with their neighbours"),
      )),
    Measure("csa_difference_mm2", "CSA difference of two methods", "mm²", None, 1, "masks",
            "mean of the first minus the second over the slices where both have cord"),
    Measure("min_slice_dice", "smallest Dice of a slice", "", True, 3, "masks",
            "over the slices where both have cord, 0 to 1"),
    Measure("nsd_tolerance_mm", "tolerance of the NSD", "mm", None, 2, "masks", "0.5 mm, or one in-plane voxel"),
    Measure("failures", "failures", "% of a person's images", False, 1, "images",
            "no mask, coverage below 0.8, failed by a rater, or Dice with the reference below 0.7"),
    Measure("csa_error", "precision of the area against references (SD of the CSA error)", "%", False, 1, "reference",
            "SD over people of the error of the mean CSA, the mean error removed"),
    Measure("csa_error_rms", "error of the area against references (root mean square)", "%", False, 1, "reference",
            "root mean square over people of the error of the mean CSA: bias counts"),
    Measure("change_error", "precision of change against references (within-person SD of the CSA error)", "%", False, 1,
            "reference", "SD over a person's sessions of the error of the mean CSA, the person's mean error removed"),
    Measure("bias", "difference of the mean areas", "%", None, 1, "reference",
            "mean error of the CSA against references; without them, between the methods' masks"),
    Measure("preference", "blind preference of raters", "% of people", True, 1, "images",
            "people in whom raters prefer a method's masks, by the majority of their ratings"),
    Measure("repeats", "precision over repeats (within-person SD of the CSA)", "%", False, 2, "images",
            "SD over declared repeats of a person, on the same stretch of cord or level"),
    Measure("inter_contrast_sd", "spread of the CSA between contrasts", "mm²", False, 2, "images",
            "SD over the contrasts of a session on the common stretch of cord"),
    Measure("seconds", "time per image", "s", False, 1, "process", "of the segmentation of that image"),
    Measure("peak_mb", "peak memory", "MiB", False, 0, "process", "of the segmentation of that image"),
)  # fmt: skip

MEASURES = {measure.name: measure for measure in _MEASURES}
"""Name to measure."""

AREA_UNIT = MEASURES["csa_mean_mm2"].unit
"""Unit of areas and their differences in texts and figures."""

EVIDENCE_MEASURES = tuple(name for name, m in MEASURES.items() if m.source == "evidence")
"""Measures from which the Dice is predicted."""

METRICS = tuple(list(MEASURES)[: list(MEASURES).index("csa_difference_mm2")])
"""Measures of one mask: the numeric columns of ``metrics.tsv``, in their order."""

AGREEMENT = ("dice", "hd95_mm", "assd_mm", "nsd", "nsd_tolerance_mm", "csa_difference_mm2", "min_slice_dice")
"""Measures of two masks: the numeric columns of ``agreement.tsv``."""

SHAPE_MEANING = {
    "csa_mm2": "area across the cord: area in the slice, corrected for the angle between cord and slice",
    "csa_axial_mm2": "area in the slice",
    "diameter_ap_mm": "front to back, along the cord's own axis, mean over the middle 3 mm",
    "diameter_rl_mm": "right to left: axis of the ellipse of equal moments",
    "eccentricity": "of that ellipse, 0 (circle) to 1",
    "solidity": "area divided by that of the convex hull, 0 to 1",
    "orientation_deg": "rotation of the cord's right-left axis towards the front, -45 to 45",
    "angle_ap_deg": "tilt of the cord about the front-back axis",
    "angle_rl_deg": "tilt of the cord about the right-left axis",
}
"""Meanings of the shape of one slice (`spineseg.metrics.shape.SliceShape`), for the docs."""

SLICE_SHAPE = tuple(SHAPE_MEANING)
"""Columns of ``slices.tsv.gz``."""

SLICE_SD = {
    name: f"{name.removesuffix(unit)}_sd{unit}"
    for name in SLICE_SHAPE
    for unit in [next((u for u in ("_mm2", "_mm", "_deg") if name.endswith(u)), "")]
}
"""Measure of shape to the column of its SD over slices, such as ``csa_sd_mm2``."""

SCT_SOLIDITY = ("solidity_sct", "solidity_sct_sd")
"""Solidity as SCT defines it, and its SD over slices (`spineseg.metrics.solidity.compute_sct_solidity`)."""

LEVEL_SHAPE = (*SLICE_SHAPE, "length_mm", "level_coverage", *SLICE_SD.values(), *SCT_SOLIDITY)
"""Means, sums and SD over the slices of a level: columns of ``csa.tsv``."""

LEVEL_MEANING = {
    "length_mm": "length of cord in the slices",
    "level_coverage": "share of the level's length, along the cord, that lies in mask and field of view, 0 to 1",
    "solidity_sct": "solidity as SCT defines it, which is lower in coarse voxels",
    "solidity_sct_sd": "its standard deviation over slices",
}
"""Meanings of the columns of a level beside the means and SDs of its slices, for the docs."""


@dataclass(frozen=True)
class PlausibleLimits:
    """Limits of a plausible cord: the config key ``plausible``. The defaults are for human adults.

    They are wide on purpose, because cords with atrophy or compression must pass. Healthy cervical cords have areas of
    45-110 mm² and diameters of 5-15 mm; the thoracic cord has areas down to 35 mm².

    Parameters
    ----------
    csa_mm2, diameter_mm : (float, float)
        Least and largest value, mm² and mm.
    eccentricity : float
        Largest value, 0 (circle) to 1.
    solidity : float
        Least value, 0 to 1.
    """

    csa_mm2: tuple[float, float] = (20.0, 130.0)
    diameter_mm: tuple[float, float] = (3.0, 18.0)
    eccentricity: float = 0.95
    solidity: float = 0.85

    def __post_init__(self) -> None:
        for name in ("csa_mm2", "diameter_mm"):
            low, high = getattr(self, name)
            if not 0 <= low < high:
                raise InputError(f"plausible.{name}: expected [least, most], found [{low:g}, {high:g}]")

    @classmethod
    def from_config(cls, section: Mapping[str, Any] | None) -> PlausibleLimits:
        """Read the limits from a section that fits the configuration's schema; missing keys keep their default."""
        values = dict(section or {})
        pairs = {key: (float(value[0]), float(value[1])) for key, value in values.items() if isinstance(value, list)}
        return cls(**(values | pairs))


ADULTS = PlausibleLimits()
"""The default limits."""
