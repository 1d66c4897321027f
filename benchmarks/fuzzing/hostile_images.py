"""Images that are small files and large, endless or dangerous for a careless reader."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable


def with_checksums(content: bytes) -> bytes:
    """A PNG file with the right checksum in each chunk; other files stay as they are."""
    if not content.startswith(b"\x89PNG\r\n\x1a\n"):
        return content
    parts, at = [content[:8]], 8
    while at + 12 <= len(content):
        (length,) = struct.unpack(">I", content[at : at + 4])
        body = content[at + 4 : at + 8 + length]
        parts += [content[at : at + 4], body, struct.pack(">I", zlib.crc32(body))]
        at += 12 + length
    return b"".join((*parts, content[at:]))


def _png(width: int, height: int, bits: int = 1, kind: int = 0) -> bytes:
    """A PNG file of black pixels, which is small whatever its size in pixels is."""
    row = 1 + -(-width * bits * {0: 1, 2: 3, 6: 4}[kind] // 8)
    compress = zlib.compressobj(9)
    rows = b"".join(compress.compress(bytes(row)) for _ in range(height)) + compress.flush()
    chunks = ((b"IHDR", struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0)),
              (b"IDAT", rows), (b"IEND", b""))  # fmt: skip
    parts = (struct.pack(">I", len(data)) + name + data + bytes(4) for name, data in chunks)
    return with_checksums(b"\x89PNG\r\n\x1a\n" + b"".join(parts))


def _postscript() -> bytes:
    """Pillow gives EPS files to the program Ghostscript, whatever the name of the file is."""
    return (
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n%%EndComments\n"
        b"(canary) (w) file closefile\nshowpage\n%%EOF\n"
    )


HOSTILE_IMAGES: tuple[Callable[[], bytes], ...] = (
    lambda: b"",
    lambda: b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    lambda: _png(60_000, 1, 8, 2),
    lambda: _png(1, 60_000, 8, 2),
    lambda: _png(20_000, 1, 16, 6),
    lambda: _png(12_000, 12_000),
    lambda: _png(30_000, 30_000),
    lambda: b"P6 65000 65000 255\n" + bytes(64),
    _postscript,
)
