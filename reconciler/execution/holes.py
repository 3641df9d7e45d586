"""Files with holes: a copy of one takes no more of the disk than it does. Used by what copies files of scripts."""

from __future__ import annotations

import os
from typing import IO

BLOCK = 1 << 16
_ZEROS = bytes(BLOCK)


def write(target: IO[bytes], block: bytes) -> int:
    """Append at most `BLOCK` bytes, zeros alone as a hole; gives how many take room.

    A file that may end in a hole has its size only after `target.truncate()`.
    """
    if block == _ZEROS[: len(block)]:
        target.seek(len(block), os.SEEK_CUR)
        return 0
    target.write(block)
    return len(block)
