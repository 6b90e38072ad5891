"""The four contrasts, what they show, and which BIDS suffix has which."""

CONTRASTS = ("t1", "t2", "t2s", "dwi")

CORD_DARKER = {"t1": False, "t2": True, "t2s": True, "dwi": False}
"""Whether the cord is darker than the cerebrospinal fluid around it."""

SUFFIX_CONTRAST = {
    "T1w": "t1",
    "T2w": "t2",
    "T2star": "t2s",
    "T2starw": "t2s",
    "MTS": "t2s",
    "MEGRE": "t2s",
    "dwi": "dwi",
    "bold": "t2",  # bright fluid, dark cord
    "sbref": "t2",
}
"""BIDS suffix to contrast; other suffixes are not segmented."""
