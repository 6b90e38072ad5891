"""Provenance of a result: weights, checksums, peak memory."""

from __future__ import annotations

import hashlib
import json
import resource
from pathlib import Path
from typing import Any

WEIGHTS_DIR = Path(__file__).parent / "weights"

WEIGHTS_SUFFIXES = (".safetensors", ".h5", ".onnx")
"""Endings of files in a user's folder that may be weights: those of spineseg, Keras and ONNX."""


def sha256_file(path: str | Path) -> str:
    """Return the SHA-256 of a file's content, in hexadecimal."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sha256_json(content: Any) -> str:
    """Return the SHA-256 of a JSON value, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


class PeakMemory:
    """Peak resident memory of this process since the object was created, MiB."""

    def __init__(self) -> None:
        # Linux lets a process reset its own high-water mark; elsewhere the peak of the whole process counts
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
