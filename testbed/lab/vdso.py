"""Changes the time of day that a running process sees, by a modified copy of the kernel's vDSO.

Programs read the time by calling functions of the vDSO, code that the kernel maps into every process. Writing there
gives the process a private page. Each function is patched with a jump to code in the unused end of the mapping, which
calls the kernel and adds the offset. Monotonic clocks do not change, and neither do timers and waits of the kernel that
end at a time of day.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

AT_SYSINFO_EHDR = 33
PAGE = 4096
DT_SYMTAB, DT_STRTAB, DT_GNU_HASH, DT_HASH = 6, 5, 0x6FFFFEF5, 4
PT_LOAD, PT_DYNAMIC = 1, 2
SYMBOL_BYTES = 24
# mov eax, number; syscall
CALL = b"\xb8%s\x0f\x05"
# add qword [register], offset; ret
ADD_AT_RSI, ADD_AT_RDI, RETURN = b"\x48\x81\x06%s\xc3", b"\x48\x81\x07%s\xc3", b"\xc3"


@dataclass(frozen=True)
class VdsoImage:
    """The vDSO as the kernel maps it: its bytes, and the offsets of the functions that return the time."""

    content: bytes
    entries: dict[str, int]
    free: int  # offset of the unused end


def own() -> VdsoImage:
    """The vDSO of this process, which is the same in every process; raises OSError when it can't be used."""
    base = _base("self")
    if base is None:
        raise OSError("this kernel maps no vDSO")
    with Path("/proc/self/maps").open() as maps:
        end = next(int(line.split("-")[1].split()[0], 16) for line in maps if line.startswith(f"{base:x}-"))
    with Path("/proc/self/mem").open("rb", buffering=0) as memory:
        memory.seek(base)
        content = memory.read(end - base)
    return VdsoImage(content, _functions(content), _free(content))


def _base(process: int | str) -> int | None:
    words = Path(f"/proc/{process}/auxv").read_bytes()
    return next(
        (value for key, value in struct.iter_unpack("<QQ", words) if key == AT_SYSINFO_EHDR and value), None
    )


def _free(content: bytes) -> int:
    (sections,) = struct.unpack_from("<Q", content, 40)
    size, count = struct.unpack_from("<HH", content, 58)
    return (sections + size * count + 63) // 64 * 64


def _functions(content: bytes) -> dict[str, int]:
    (headers,) = struct.unpack_from("<Q", content, 32)
    (count,) = struct.unpack_from("<H", content, 56)
    dynamic: dict[int, int] = {}
    for number in range(count):
        kind, _, offset, _, _, size = struct.unpack_from("<IIQQQQ", content, headers + 56 * number)
        if kind == PT_DYNAMIC:
            dynamic = dict(struct.iter_unpack("<QQ", content[offset : offset + size]))
    symbols, names = dynamic[DT_SYMTAB], dynamic[DT_STRTAB]
    found: dict[str, int] = {}
    # the string table follows the symbols in every vDSO that the kernel builds
    for place in range(symbols, names, SYMBOL_BYTES):
        name, _, _, _, value, _ = struct.unpack_from("<IBBHQQ", content, place)
        text = content[names + name : content.index(b"\0", names + name)].decode()
        if value and text.startswith("__vdso_"):
            found[text] = value
    return found


def stubs(seconds: int) -> dict[str, bytes]:
    """The code of each function that returns the time plus `seconds` (x86-64, C calling convention)."""
    offset = struct.pack("<i", seconds)

    def call(number: int) -> bytes:
        return CALL % struct.pack("<I", number)

    add = ADD_AT_RSI % offset
    return {
        # clocks 0 and 5 return the time of day: test edi, edi; je add; cmp edi, 5; je add; ret; add: ...
        "__vdso_clock_gettime": call(228) + b"\x85\xff\x74\x06\x83\xff\x05\x74\x01" + RETURN + add,
        # test rdi, rdi; jne add; ret; add: ...
        "__vdso_gettimeofday": call(96) + b"\x48\x85\xff\x75\x01" + RETURN + ADD_AT_RDI % offset,
        # xor edi, edi for the call; push and pop keep the caller's pointer; add rax, offset; store; ret
        "__vdso_time": b"\x57\x31\xff"
        + call(201)
        + b"\x5f\x48\x05"
        + offset
        + b"\x48\x85\xff\x74\x03\x48\x89\x07"
        + RETURN,
    }


def shift(process: int, image: VdsoImage, seconds: int) -> None:
    """Makes the process see the time of day plus `seconds`; 0 restores the original vDSO.

    A process that has just ended, or has no vDSO, is ignored. Raises OSError when the kernel refuses.
    """
    try:
        base = _base(process)
        if base is None:
            return
        with Path(f"/proc/{process}/mem").open("r+b", buffering=0) as memory:
            for place, code in _changes(image, seconds):
                memory.seek(base + place)
                if memory.read(len(code)) != code:
                    memory.seek(base + place)
                    memory.write(code)
    except (FileNotFoundError, ProcessLookupError):
        return


def _changes(image: VdsoImage, seconds: int) -> list[tuple[int, bytes]]:
    """The bytes to write and their offsets, code before the jumps to it."""
    places: list[tuple[int, bytes]] = []
    jumps: list[tuple[int, bytes]] = []
    free = image.free
    for name, code in stubs(seconds).items():
        if name not in image.entries:
            continue
        entry = image.entries[name]
        jump = (
            b"\xe9" + struct.pack("<i", free - (entry + 5)) if seconds else image.content[entry : entry + 5]
        )
        # eight bytes at once, since a thread may be executing there
        jumps.append((entry, jump + image.content[entry + 5 : entry + 8]))
        places.append((free, code))
        free += (len(code) + 15) // 16 * 16
    if free > len(image.content):
        raise OSError("the vDSO has no room left")
    return [*(places if seconds else []), *jumps]
