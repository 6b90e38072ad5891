"""Read a gzip file to its end, so that its check sum and length are always verified."""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from spineseg.errors import InputError

CHUNK_BYTES = 1 << 20
"""Read at a time: small beside any image, large beside a call."""

GZIP_MAGIC = b"\x1f\x8b"

MAX_DEFLATE_RATIO = 1032
"""Deflate cannot do better: 258 bytes by two bits."""


def read_compressed(path: Path, head_bytes: int, claimed_bytes: Callable[[bytes], int]) -> io.BytesIO:
    """Decompress a file that must hold exactly as much as its own header claims.

    Parameters
    ----------
    path : Path
        A gzip file of one or more members.
    head_bytes : int
        Bytes that `claimed_bytes` needs to see.
    claimed_bytes : callable
        From the first bytes to the length of the whole, decompressed. May raise InputError: nothing more is
        read then.

    Raises
    ------
    InputError
        If the stream is damaged, cut, followed by other bytes, or longer or shorter than claimed.
    """
    content = io.BytesIO()
    limit: int | None = None

    def room() -> int:
        """Bytes that may still come, and one more that would be too many."""
        return (head_bytes if limit is None else limit) + 1 - content.tell()

    with path.open("rb") as stream:
        for piece in _decompress(stream, path, room):
            content.write(piece)
            if limit is None and content.tell() >= head_bytes:
                limit = claimed_bytes(content.getvalue())
            if limit is not None and content.tell() > limit:
                raise InputError(
                    f"{path}: damaged (its header claims {limit} bytes, more follow); copy or convert it again"
                )
    limit = claimed_bytes(content.getvalue()) if limit is None else limit
    if content.tell() < limit:
        raise InputError(
            f"{path}: damaged or truncated (its header claims {limit} bytes, found {content.tell()}); "
            "copy or convert it again"
        )
    return content


def _decompress(stream: BinaryIO, path: Path, room: Callable[[], int]) -> Iterator[bytes]:
    """Yield the decompressed pieces, none longer than there is room for; zlib verifies each member's end."""
    waiting = stream.read(CHUNK_BYTES)
    while waiting:
        member = zlib.decompressobj(wbits=31)
        while not member.eof:
            if not waiting:
                raise InputError(f"{path}: damaged or truncated (the file ends too early); copy or convert it again")
            try:
                piece = member.decompress(waiting, max(1, room()))
            except zlib.error as error:
                reason = str(error).removeprefix("Error -3 while decompressing data: ")
                raise InputError(f"{path}: damaged or truncated ({reason}); copy or convert it again") from error
            yield piece
            waiting = member.unconsumed_tail or (b"" if member.eof else stream.read(CHUNK_BYTES))
        waiting = member.unused_data or stream.read(CHUNK_BYTES)
        if len(waiting) < len(GZIP_MAGIC):
            waiting += stream.read(CHUNK_BYTES)
        if waiting and not waiting.startswith(GZIP_MAGIC):
            while waiting and not waiting.strip(b"\0"):  # padding, as tapes and archives leave it
                waiting = stream.read(CHUNK_BYTES)
            if waiting:
                raise InputError(f"{path}: damaged (other bytes follow its end); copy or convert it again")
