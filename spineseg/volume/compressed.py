"""Read a gzip file to its end, so that its checksum and length are always verified."""

from __future__ import annotations

import mmap
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, cast

from spineseg.errors import InputError, find_shortage

CHUNK_BYTES = 1 << 20
"""Bytes read at a time: small compared with an image, large enough that calls cost little."""

ZEROS = bytes(CHUNK_BYTES)

GZIP_MAGIC = b"\x1f\x8b"

MAX_DEFLATE_RATIO = 1032
"""Best ratio that deflate can reach: 258 bytes in two bits."""


class Memory(mmap.mmap):
    """A file in memory that starts as zeros; pages that are never written take no memory."""

    @classmethod
    def of_zeros(cls, n: int) -> Memory:
        """Return n bytes of zeros."""
        return cls(-1, n, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)

    def readinto(self, target: bytearray) -> int:
        """Copy the next bytes into a buffer directly, without the second copy that `mmap` would make."""
        start = self.tell()
        with memoryview(self) as whole:
            piece = whole[start : start + len(target)]
            n = len(piece)
            memoryview(target)[:n] = piece
            piece.release()
        self.seek(start + n)
        return n


def read_compressed(path: Path, head_bytes: int, claimed_bytes: Callable[[bytes], int]) -> BinaryIO:
    """Decompress a file that must hold exactly as many bytes as its own header claims.

    Runs of zeros are not written, so they take no memory.

    Parameters
    ----------
    path : Path
        A gzip file of one or more members.
    head_bytes : int
        Number of bytes that `claimed_bytes` needs.
    claimed_bytes : callable
        Takes the first decompressed bytes and returns the claimed length of all of them. It may raise InputError;
        then nothing more is read.

    Returns
    -------
    file-like object
        The decompressed bytes, at position 0.

    Raises
    ------
    InputError
        If the stream is damaged, cut, followed by other bytes, or longer or shorter than claimed.
    """
    head, found = b"", 0
    content: Memory | None = None

    def room() -> int:
        """Return how many bytes may still follow, plus one that would show that there are too many."""
        return min(CHUNK_BYTES, (head_bytes if content is None else len(content)) + 1 - found)

    def keep(piece: bytes, content: Memory) -> None:
        """Store the piece that ends at the stream's position, unless it is all zeros; refuse too many bytes."""
        if found > len(content):
            raise InputError(
                f"{path}: damaged (its header claims {len(content)} bytes, more follow); copy or convert it again"
            )
        if not ZEROS.startswith(piece):
            content[found - len(piece) : found] = piece

    with path.open("rb") as stream:
        for piece in _decompress(stream, path, room):
            found += len(piece)
            if content is not None:
                keep(piece, content)
                continue
            head += piece
            if found >= head_bytes:
                content = Memory.of_zeros(claimed_bytes(head))
                keep(head, content)
    if content is None:  # the whole file is shorter than `head_bytes`
        content = Memory.of_zeros(claimed_bytes(head))
        keep(head, content)
    if found < len(content):
        raise InputError(
            f"{path}: damaged or truncated (its header claims {len(content)} bytes, found {found}); "
            "copy or convert it again"
        )
    return cast(BinaryIO, content)


def _decompress(stream: BinaryIO, path: Path, room: Callable[[], int]) -> Iterator[bytes]:
    """Yield the decompressed pieces, each at most `room()` bytes long; zlib verifies each member's end."""
    waiting = stream.read(CHUNK_BYTES)
    while waiting:
        member = zlib.decompressobj(wbits=31)
        while not member.eof:
            if not waiting:
                raise InputError(f"{path}: damaged or truncated (the file ends too early); copy or convert it again")
            try:
                piece = member.decompress(waiting, max(1, room()))
            except zlib.error as error:
                if shortage := find_shortage(error):
                    raise shortage from error
                reason = str(error).removeprefix("Error -3 while decompressing data: ")
                raise InputError(f"{path}: damaged or truncated ({reason}); copy or convert it again") from error
            yield piece
            waiting = member.unconsumed_tail or (b"" if member.eof else stream.read(CHUNK_BYTES))
        waiting = member.unused_data or stream.read(CHUNK_BYTES)
        if len(waiting) < len(GZIP_MAGIC):
            waiting += stream.read(CHUNK_BYTES)
        if waiting and not waiting.startswith(GZIP_MAGIC):
            while waiting and not waiting.strip(b"\0"):  # padding that tapes and archives leave
                waiting = stream.read(CHUNK_BYTES)
            if waiting:
                raise InputError(f"{path}: damaged (other bytes follow its end); copy or convert it again")
