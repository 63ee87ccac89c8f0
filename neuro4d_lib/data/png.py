"""Pixels to a PNG file (W3C, 2003, ISO/IEC 15948), without a picture library."""

from __future__ import annotations

import struct
import zlib

import numpy as np


def png(pixels: np.ndarray) -> bytes:
    """A gray image [rows, columns] or one of red, green and blue [rows, columns, 3], 0 to 1, as a PNG file."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    rows, columns = pixels.shape[:2]
    color = 0 if pixels.ndim == 2 else 2
    flat = np.zeros((rows, pixels[0].size + 1), np.uint8)  # each row begins with its filter, 0: none
    flat[:, 1:] = np.rint(255 * pixels).reshape(rows, -1)
    header = struct.pack(">IIBBBBB", columns, rows, 8, color, 0, 0, 0)
    packed = zlib.compress(flat.tobytes(), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")
