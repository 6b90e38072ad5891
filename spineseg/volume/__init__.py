"""Images as arrays with an affine: in canonical orientation in memory, on their own grid on disk.

The canonical orientation is nibabel's ``LAS``, which the Spinal Cord Toolbox calls RPI:
axis 0 runs from right to left, axis 1 from posterior to anterior, axis 2 from inferior
to superior. All arrays between `load_image` and `save_volume` are canonical.
"""

from spineseg.volume.files import load_image, load_mask, save_volume
from spineseg.volume.grid import (
    CANONICAL_AXCODES,
    MAX_SHIFT_VOX,
    NativeGrid,
    Volume,
    check_same_affine,
    check_same_grid,
    crop,
    mask_box,
    measure_shift,
    native_index,
    to_canonical,
    to_native,
)

__all__ = [
    "CANONICAL_AXCODES",
    "MAX_SHIFT_VOX",
    "NativeGrid",
    "Volume",
    "check_same_affine",
    "check_same_grid",
    "crop",
    "load_image",
    "load_mask",
    "mask_box",
    "measure_shift",
    "native_index",
    "save_volume",
    "to_canonical",
    "to_native",
]
