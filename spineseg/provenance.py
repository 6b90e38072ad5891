"""Where a result came from: weights, checksums, memory."""

from __future__ import annotations

import hashlib
import json
import resource
from pathlib import Path
from typing import Any

from spineseg.errors import ModelError

WEIGHTS_DIR = Path(__file__).parent / "weights"
METHOD_WEIGHTS = {"propseg": "optic*.safetensors", "deepseg": "deepseg_*.safetensors"}
"""Which shipped files each method reads."""

WEIGHTS_SUFFIXES = (".safetensors", ".h5", ".onnx")
"""Files of a user's folder that may be weights: ours, Keras's, and ONNX."""


def sha256_file(path: str | Path) -> str:
    """Return the SHA-256 of a file's content, in hexadecimal."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sha256_json(content: Any) -> str:
    """Return the SHA-256 of a JSON value, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def weights_of(method: str, override: str | Path | None = None) -> dict[str, str]:
    """Return file name and SHA-256 of the weights that `method` reads.

    Parameters
    ----------
    method : str
    override : str or Path, optional
        The user's own weights, a file or a folder of files.

    Raises
    ------
    ModelError
        If there is no such file or folder.
    """
    if override:
        path = Path(override)
        if not path.exists():
            raise ModelError(f"{path}: no such weights file or folder")
        files = sorted(f for f in path.iterdir() if f.suffix in WEIGHTS_SUFFIXES) if path.is_dir() else [path]
    else:
        files = sorted(WEIGHTS_DIR.glob(METHOD_WEIGHTS.get(method, "-")))
    return {file.name: sha256_file(file) for file in files}


class PeakMemory:
    """Peak resident memory since it was made, of this process, MiB."""

    def __init__(self) -> None:
        # Linux lets a process reset its own high-water mark; elsewhere the whole life counts
        try:
            Path("/proc/self/clear_refs").write_text("5")
            self._resettable = True
        except OSError:
            self._resettable = False

    def mib(self) -> float:
        """Return the peak so far."""
        if self._resettable:
            for line in Path("/proc/self/status").read_text().splitlines():
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) / 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
