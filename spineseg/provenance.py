"""Where a result came from: versions, weights, checksums, memory."""

from __future__ import annotations

import hashlib
import json
import resource
from pathlib import Path
from typing import Any

from spineseg import __version__

WEIGHTS_DIR = Path(__file__).parent / "weights"
METHOD_WEIGHTS = {"propseg": "optic*.safetensors", "deepseg": "deepseg_*.safetensors"}
"""Which shipped files each method reads."""


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
    """
    if override:
        files = sorted(Path(override).glob("*.safetensors")) if Path(override).is_dir() else [Path(override)]
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


def build_sidecar(
    *,
    sources: list[str],
    method: str,
    contrast: str,
    status: str,
    notes: tuple[str, ...],
    parameters: dict[str, Any],
    weights: dict[str, str],
    seconds: dict[str, float],
    peak_mib: float,
    device: str,
    threads: int,
) -> dict[str, Any]:
    """Return the JSON that lies beside a mask: what made it, from what, and how it went."""
    return {
        "Sources": sources,
        "SpatialReference": "orig",
        "GeneratedBy": [
            {
                "Name": "spineseg",
                "Version": __version__,
                "Weights": [{"File": name, "SHA256": digest} for name, digest in weights.items()],
            }
        ],
        "Method": method,
        "Contrast": contrast,
        "Status": status,
        "Notes": list(notes),
        "Parameters": parameters,
        "Seconds": round(sum(seconds.values()), 3),
        "StageSeconds": {name: round(value, 3) for name, value in seconds.items()},
        "PeakMB": round(peak_mib, 1),
        "Device": device,
        "Threads": threads,
    }
