"""A mask that a person has edited is not overwritten without -overwrite 1."""

import json

import nibabel as nib
import numpy as np
import pytest

from spineseg.bids import sidecar_path
from spineseg.cli import main
from spineseg.phantom.dataset import write_dataset


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    root = tmp_path_factory.mktemp("overwrite")
    write_dataset(root, 1, 1, contrasts=("T2star",))
    return next(root.glob("sub-01/anat/*_T2star.nii.gz"))


def emptied(path):
    """Empty half of a mask, as an editor does."""
    mask = nib.load(path)
    data = np.asarray(mask.dataobj).copy()
    data[..., data.shape[2] // 2 :] = 0
    nib.save(nib.Nifti1Image(data, mask.affine, mask.header), path)


def without_sidecar(path):
    """The mask of another program has no sidecar of ours."""
    sidecar_path(path).unlink()
    emptied(path)


@pytest.mark.parametrize("method", ["propseg", "deepseg"])
@pytest.mark.parametrize("change", [emptied, without_sidecar])
def test_an_edited_mask_is_replaced_only_on_request(image, tmp_path, method, change, capsys):
    mask = tmp_path / "mask.nii.gz"
    argv = [method, "-i", str(image), "-c", "t2s", "-o", str(mask), "-v", "0"]
    assert main(argv) == 0
    ours = mask.read_bytes()
    assert main(argv) == 0  # not edited: written again
    change(mask)
    drawn = mask.read_bytes()
    capsys.readouterr()
    assert main(argv) == 2
    said = capsys.readouterr().err.strip()
    assert "\n" not in said
    assert str(mask) in said
    assert "-overwrite 1 replaces it" in said
    assert mask.read_bytes() == drawn
    assert main([*argv, "-overwrite", "1"]) == 0
    assert mask.read_bytes() == ours
    assert json.loads(sidecar_path(mask).read_text())["Method"] == method
