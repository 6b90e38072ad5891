"""Write and read the weights of the networks of both stages."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from spineseg.deepseg.network import UNet, UNetConfig, fold_batch_norm, to_channels_last
from spineseg.deepseg.sct.networks import SctUNet
from spineseg.errors import ModelError, one_line
from spineseg.file_digests import stamps_of
from spineseg.provenance import WEIGHTS_DIR
from spineseg.writing import write_bytes

STAGES = ("detect", "segment")
SEGMENT_3D_NAME = "deepseg_segment_3d.safetensors"
FORMAT = "spineseg-unet-1"
"""Written into each file; another value means another architecture or preprocessing."""

MAX_COUNT = 4096
"""Largest number of feature maps, dilation or number of pixels in a description; ours have up to 128."""

MAX_VALUES = 100_000_000
"""Largest number of values of a network; ours have up to 2 million."""


@dataclass(frozen=True)
class Models:
    """The networks of both stages, ours or SCT's, ready to use (batch norm folded into the convolutions).

    `segment_3d` is the file of the network that uses neighbouring slices for the outline, if there is one.
    """

    detect: UNet | SctUNet
    segment: UNet | SctUNet
    device: str = "cpu"
    notes: tuple[str, ...] = ()
    segment_3d: Path | None = None

    def for_contrast(self, contrast: str, kernel: str = "2d") -> Models:
        """Return the networks for images of any contrast, with 2-D or 3-D convolutions.

        Raises
        ------
        ModelError; if there is no such network
        """
        if kernel == self.segment.config.kernel:
            return self
        if kernel == "2d" or self.segment_3d is None:
            raise ModelError(
                f"-kernel {kernel}: the weights that were given hold no such network; use -kernel 2d, or add its file"
            )
        return replace(self, segment=_load_ready(self.segment_3d, "segment", self.device, stamps_of(self.segment_3d)))


def save_model(path: str | Path, model: UNet, provenance: dict[str, Any], *, half: bool = False) -> None:
    """Write weights, configuration and provenance as one safetensors file, atomically; equal input, equal bytes.

    Parameters
    ----------
    path : str or Path
    provenance : JSON-able facts: people, folds, seed, steps, checksum of the data
    half : store float16, which is precise enough for these networks and halves the size
    """
    kind = torch.float16 if half else torch.float32
    tensors = {
        name: (value.to(kind) if value.is_floating_point() else value).contiguous()
        for name, value in model.state_dict().items()
    }
    metadata = {
        "format": FORMAT,
        "config": json.dumps(asdict(model.config), sort_keys=True),
        "provenance": json.dumps(provenance, sort_keys=True),
    }
    write_bytes(path, _sort_header(save(tensors, metadata)))


def _sort_header(content: bytes) -> bytes:
    """Sort the keys of a safetensors header, because the library writes them in a different order each time.

    The file starts with the header's length (8 bytes, little endian) and the header (JSON, padded by blanks). Offsets
    in the header count from its end, so its order may change.
    """
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    text = json.dumps(header, sort_keys=True, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors stay aligned
    return len(text).to_bytes(8, "little") + text + content[8 + length :]


def load_model(path: str | Path) -> tuple[UNet, dict[str, Any]]:
    """Read a network and its provenance.

    Raises
    ------
    ModelError; if the file is missing, damaged or not one of ours
    """
    path = Path(path)
    if not path.is_file():
        raise ModelError(f"{path}: no such weights file")
    try:
        with safe_open(path, framework="pt") as stream:
            metadata = stream.metadata() or {}
            tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118 (no __iter__)
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelError(
            f"{path}: expected weights in safetensors format ({one_line(error)[:120]}); copy them again"
        ) from error
    if metadata.get("format") != FORMAT:
        found = metadata.get("format", "no format entry")
        raise ModelError(f"{path}: expected weights of format {FORMAT}, found {found}; train them again")
    try:
        config = _read_config(metadata["config"])
        provenance = json.loads(metadata["provenance"])
        if sum(tensor.numel() for tensor in tensors.values()) > MAX_VALUES:
            raise ValueError(f"more than {MAX_VALUES} values")
        if not all(t.isfinite().all() for t in tensors.values()):
            raise ValueError("values that are not finite")
        with torch.device("meta"):  # shapes first: a damaged description could ask for any size
            expected = {name: tuple(value.shape) for name, value in UNet(config).state_dict().items()}
        if expected != {name: tuple(value.shape) for name, value in tensors.items()}:
            raise ValueError("other tensors than its configuration has")
    except (KeyError, TypeError, ValueError, RecursionError, RuntimeError) as error:
        reason = one_line(error)[:120]
        raise ModelError(f"{path}: expected whole weights, found damage ({reason}); copy them again") from error
    model = UNet(config)
    try:
        model.load_state_dict({n: t.float() if t.is_floating_point() else t for n, t in tensors.items()})
    except RuntimeError as error:
        raise ModelError(f"{path}: its tensors do not fit its configuration; train it again") from error
    return model.eval(), provenance


def _read_config(text: str) -> UNetConfig:
    """Read the description of a network; raise ValueError if it is invalid."""
    settings = json.loads(text)
    settings["channels"], settings["dilations"] = map(tuple, (settings["channels"], settings["dilations"]))
    config = UNetConfig(**settings)
    counts = (*config.channels, *config.dilations, config.patch_px)
    if not config.channels or not all(type(n) is int and 1 <= n <= MAX_COUNT for n in counts):
        raise ValueError(f"channels, dilations or patch that are no whole numbers from 1 to {MAX_COUNT}")
    if not 0.05 <= config.zoom_mm <= 30 or config.stage not in STAGES or config.kernel not in ("2d", "3d"):
        raise ValueError("a pixel size, stage or kernel that no network has")
    return config


def default_weights() -> dict[str, Path]:
    """Return the shipped weights file of each stage."""
    return {stage: WEIGHTS_DIR / f"deepseg_{stage}.safetensors" for stage in STAGES}


def load_own_models(weights: str | Path | None = None, device: str = "cpu") -> Models:
    """Load our networks.

    Parameters
    ----------
    weights : str or Path; as for `spineseg.deepseg.model.load_models`, of our own format

    Raises
    ------
    ModelError; if a file is missing, damaged or not ours
    """
    folder, files = WEIGHTS_DIR, default_weights()
    if weights is not None and Path(weights).is_dir():
        folder = Path(weights)
        files = {stage: folder / file.name for stage, file in files.items()}
    elif weights is not None:
        model, _ = load_model(weights)
        files[model.config.stage] = Path(weights)
    networks = {stage: _load_ready(file, stage, device, stamps_of(file)) for stage, file in files.items()}
    segment_3d = folder / SEGMENT_3D_NAME
    beside = files["segment"].parent == folder and segment_3d.is_file()
    return Models(networks["detect"], networks["segment"], device, segment_3d=segment_3d if beside else None)


@lru_cache(maxsize=8)
def _load_ready(file: Path, stage: str, device: str, stamps: tuple[tuple[int, ...], ...]) -> UNet:
    """Load the network of a stage and make it fast; `stamps` in the cache's key make it read replaced files again."""
    model, _ = load_model(file)
    if model.config.stage != stage:
        raise ModelError(f"{file}: expected a network for '{stage}', found '{model.config.stage}'")
    return to_channels_last(fold_batch_norm(model)).to(device)
