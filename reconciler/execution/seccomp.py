"""The system calls that no sandboxed script may make, as a filter for bubblewrap's --seccomp.

Called by `supervisor`, and by `sandbox` when it tries bubblewrap. Without it a script can make a user namespace and has
all rights in that: as root it mounts the machine's control groups, whose files root owns, and lifts its own limits. And
the kernel's keyrings are one for all scripts of a user, whatever their project. Filters are classic BPF over
`struct seccomp_data` (the kernel's userspace-api/seccomp_filter.rst); numbers of calls are those of its tables.
"""

from __future__ import annotations

import errno
import platform
import struct
from dataclasses import dataclass

_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = (
    0,
    4,
    16,
)  # offsets; the low half of the argument, as all of these are little-endian
_LOAD, _EQUAL, _AT_LEAST, _HAS, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _ERROR = 0x7FFF0000, 0x00050000
_CLONE_NEWUSER = 0x10000000
_CLONE3 = 435
_X32 = 0x40000000


@dataclass(frozen=True, slots=True)
class _Calls:
    """Numbers of one architecture. clone3 has the same everywhere."""

    architecture: int
    clone: int
    unshare: int
    setns: int
    add_key: int
    request_key: int
    keyctl: int


_X86_64 = _Calls(0xC000003E, 56, 272, 308, 248, 249, 250)
_I386 = _Calls(0x40000003, 120, 310, 346, 286, 287, 288)
_AARCH64 = _Calls(0xC00000B7, 220, 97, 268, 217, 218, 219)
_ARM = _Calls(0x40000028, 120, 337, 375, 309, 310, 311)
_RISCV64 = _Calls(0xC00000F3, 220, 97, 268, 217, 218, 219)
_BY_MACHINE = {
    "x86_64": (_X86_64, _I386),
    "i686": (_I386,),
    "aarch64": (_AARCH64, _ARM),
    "armv7l": (_ARM,),
    "riscv64": (_RISCV64,),
}


def program(machine: str) -> bytes:
    """The filter for a machine as `uname -m` names it; empty for one whose calls are not known here.

    Refused: user namespaces (EPERM; clone3, whose flags no filter can see, ENOSYS, and everybody falls back to clone),
    setns, keyrings (EPERM), and the calls of any other architecture (ENOSYS).
    """
    blocks = [_block(calls) for calls in _BY_MACHINE.get(machine, ())]
    if not blocks:
        return b""
    words = [_word(_LOAD, _ARCHITECTURE)]
    for calls, block in zip(_BY_MACHINE[machine], blocks, strict=True):
        words += [_word(_EQUAL, calls.architecture, no=len(block)), *block]
    return b"".join((*words, _error(errno.ENOSYS)))


def _block(calls: _Calls) -> list[bytes]:
    """What is decided for one architecture: the tests, then the answers."""
    refused = (calls.setns, calls.add_key, calls.request_key, calls.keyctl)
    tests: list[tuple[int, int, str]] = [(_AT_LEAST, _X32, "unknown")] if calls is _X86_64 else []
    tests += [(_EQUAL, _CLONE3, "unknown"), *((_EQUAL, number, "refused") for number in refused)]
    tests += [(_EQUAL, calls.clone, "flags"), (_EQUAL, calls.unshare, "flags")]
    # behind the tests: allow, flags (two words), allowed and refused by them, unknown
    places = {"allow": 0, "flags": 1, "refused": 4, "unknown": 5}
    words = [_word(_LOAD, _NUMBER)]
    for at, (how, value, answer) in enumerate(tests):
        words.append(_word(how, value, yes=len(tests) - at - 1 + places[answer]))
    return [
        *words,
        _word(_RETURN, _ALLOW),
        _word(_LOAD, _FIRST_ARGUMENT),
        _word(_HAS, _CLONE_NEWUSER, yes=1),
        _word(_RETURN, _ALLOW),
        _error(errno.EPERM),
        _error(errno.ENOSYS),
    ]


def _word(code: int, value: int, *, yes: int = 0, no: int = 0) -> bytes:
    """One instruction; `yes` and `no`: how many the next ones to pass over."""
    return struct.pack("=HBBI", code, yes, no, value)


def _error(number: int) -> bytes:
    return _word(_RETURN, _ERROR | number)


FILTER = program(platform.machine())
