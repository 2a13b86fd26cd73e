"""The arena and its blocks, one behaviour at a time; ``test_arena_machine`` proves the allocator."""

from __future__ import annotations

import copy
import ctypes
import gc
import mmap
import pickle
import struct
import threading
import warnings

import pytest

from keyholt_agent.memory import Arena, Backend, LockedBuffer, LockedMemoryError, MemorySettings
from keyholt_agent.memory import arena as arena_module
from keyholt_agent.memory.backing import open_backing
from keyholt_agent.memory.guard import wipe
from keyholt_protocol.errors import ResourceExhaustedError, TooLargeError

SIZE = 64 * 1024


def test_block_has_exactly_the_size_asked_for(arena: Arena) -> None:
    """Zero, one, a granule and its neighbours, and the whole arena."""
    for size in (0, 1, 63, 64, 65, 4096, 4097, SIZE):
        with arena.allocate(size) as buffer:
            assert len(buffer) == len(buffer.view) == size
            assert buffer.view.format == "B"
            assert not buffer.view.readonly


def test_block_is_zeroed_when_released(arena: Arena) -> None:
    """What was written is gone from the pages themselves, for small blocks and large ones."""
    for size in (1, 48, 4096, 5000, SIZE):
        buffer = arena.allocate(size)
        address = buffer.address
        buffer.view[:] = b"\xa5" * size
        assert ctypes.string_at(address, size) == b"\xa5" * size
        buffer.release()
        assert ctypes.string_at(address, size) == bytes(size)


def test_released_block_cannot_be_used(arena: Arena) -> None:
    """View, length and address raise; releasing again is harmless; the repr says so."""
    buffer = arena.allocate(48)
    buffer.release()
    buffer.release()
    with pytest.raises(ValueError, match="released"):
        buffer.view[0]
    with pytest.raises(ValueError, match="released"):
        len(buffer)
    with pytest.raises(ValueError, match="released"):
        _ = buffer.address
    assert repr(buffer) == "<LockedBuffer released>"
    assert arena.usage.blocks == 0


def test_block_that_c_code_holds_is_not_given_out_again(arena: Arena) -> None:
    """Releasing it raises and zeroes; it comes back once the holder let go."""
    buffer = arena.allocate(48)
    buffer.view[:] = b"\xa5" * 48
    held = struct.iter_unpack("48s", buffer.view)
    with pytest.raises(BufferError):
        buffer.release()
    assert next(held) == (bytes(48),)
    assert arena.usage.blocks == 1
    del held
    buffer.release()
    assert arena.usage.blocks == 0


def test_repr_hides_the_value_and_copies_are_refused(arena: Arena) -> None:
    """Only the length shows; pickle, copy, deepcopy and ordering raise TypeError."""
    with arena.allocate(7) as buffer:
        buffer.view[:] = b"s3cr3t!"
        assert repr(buffer) == "<LockedBuffer 7 bytes>"
        for refused in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(TypeError, match="key material"):
                refused(buffer)
            with pytest.raises(TypeError, match="key material"):
                refused(arena)
        with pytest.raises(TypeError):
            sorted([buffer, buffer])  # type: ignore[type-var]


def test_dropped_block_comes_back_zeroed_with_a_warning(arena: Arena) -> None:
    """A block that nobody released is a bug that is told, and neither a leak nor a value left behind."""
    buffer = arena.allocate(48)
    address = buffer.address
    buffer.view[:] = b"\xa5" * 48
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del buffer
        gc.collect()
    assert [warning.category for warning in caught] == [ResourceWarning]
    assert ctypes.string_at(address, 48) == bytes(48)
    assert arena.usage.blocks == arena.usage.used == 0


@pytest.mark.parametrize("size", [SIZE + 1, 2**40])
def test_larger_than_the_arena_is_refused_with_the_remedy(arena: Arena, size: int) -> None:
    """The sentence says what was asked, what there can be and what to raise; no retry helps."""
    with pytest.raises(TooLargeError) as refusal:
        arena.allocate(size)
    said = str(refusal.value)
    assert said.startswith(
        f"{size} bytes never fit the locked memory of the agent, which takes {SIZE} in one"
    )
    assert refusal.value.details == {"field": "payload", "limit": SIZE}
    assert not refusal.value.retryable
    assert all(part in said for part in ("RLIMIT_MEMLOCK", "LimitMEMLOCK=", "`ulimit -l`", "`[memory] size`"))
    assert arena.usage.used == 0


def test_what_never_fits_is_told_from_what_may_fit_later(arena: Arena) -> None:
    """Whatever is released, blocks that last stay: beside and between them there is no more than that."""
    quarter = SIZE // 4
    low, lasting, high = (arena.allocate(quarter, lasting=last) for last in (False, True, False))
    for size, error in ((2 * quarter + 1, TooLargeError), (2 * quarter, ResourceExhaustedError)):
        with pytest.raises(error):
            arena.allocate(size)
    high.release()
    arena.allocate(2 * quarter).release()
    lasting.release()
    with pytest.raises(ResourceExhaustedError):
        arena.allocate(SIZE)
    low.release()
    arena.allocate(SIZE).release()


def test_what_never_fits_beside_the_reserve() -> None:
    """The last eighth is for small blocks: what is over the rest never fits; the limit given does."""
    arena = Arena(open_backing("mlock", 1024 * 1024))
    with pytest.raises(TooLargeError) as refusal:
        arena.allocate(1000 * 1024)
    limit = refusal.value.details["limit"]
    assert limit == 896 * 1024
    with arena.allocate(limit), pytest.raises(ResourceExhaustedError):
        arena.allocate(limit)
    arena.close()


def test_full_arena_says_what_is_left(arena: Arena) -> None:
    """Free space in pieces is told apart from free space in one piece."""
    blocks = [arena.allocate(SIZE // 4) for _ in range(4)]
    blocks[0].release()
    blocks[2].release()
    said = f"{SIZE // 2} of {SIZE} are free for it, {SIZE // 4} in one"
    with pytest.raises(ResourceExhaustedError, match=said):
        arena.allocate(SIZE // 2)
    blocks[1].release()
    arena.allocate(SIZE // 2).release()
    blocks[3].release()


def test_negative_size_is_a_mistake_of_the_caller(arena: Arena) -> None:
    """It is refused before the free runs are looked at."""
    with pytest.raises(ValueError, match="negative"):
        arena.allocate(-1)
    assert arena.usage.used == 0


def test_usage_counts_blocks_and_remembers_the_peak(arena: Arena) -> None:
    """Bytes are counted as they are taken, in granules of 64."""
    with arena.allocate(65), arena.allocate(1):
        usage = arena.usage
        assert (usage.size, usage.used, usage.blocks) == (SIZE, 192, 2)
    usage = arena.usage
    assert (usage.used, usage.peak, usage.blocks) == (0, 192, 0)


def test_close_zeroes_what_is_still_in_use(arena: Arena) -> None:
    """No block survives it with a value; late releases are harmless, and nothing is handed out any more."""
    buffer = arena.allocate(48)
    buffer.view[:] = b"\xa5" * 48
    arena.close()
    assert buffer.view == bytes(48)
    buffer.release()
    with pytest.raises(ValueError, match="released"):
        arena.allocate(48)
    arena.close()


def test_close_zeroes_the_highest_slot(arena: Arena) -> None:
    """However it came to lie there: over others that are long back, or once the whole arena was in use."""
    lower = [arena.allocate(3000) for _ in range(10)]
    highest = arena.allocate(3000)
    for buffer in lower:
        buffer.release()
    arena.allocate(64).release()
    highest.view[:] = b"\xa5" * 3000
    arena.close()
    assert highest.view == bytes(3000)
    highest.release()


def resident_pages(address: int, pages: int) -> int:
    """How many pages of a mapping the kernel has given memory to, see mincore(2)."""
    answer = (ctypes.c_ubyte * pages)()
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.mincore(ctypes.c_void_p(address), ctypes.c_size_t(pages * mmap.PAGESIZE), answer) == 0
    return sum(page & 1 for page in answer)


def test_close_makes_no_page_resident(backend: Backend) -> None:
    """What was never handed out is not touched for being zeroed: of secret memory, a page costs 20 us."""
    backing = open_backing(backend, SIZE)
    arena = Arena(backing)
    with arena.allocate(2 * mmap.PAGESIZE) as buffer:
        buffer.view[:] = b"\xa5" * len(buffer)
    still_mapped = backing.view[:]
    arena.close()
    assert resident_pages(backing.address, SIZE // mmap.PAGESIZE) == 2
    wipe(still_mapped)  # the control
    assert resident_pages(backing.address, SIZE // mmap.PAGESIZE) == SIZE // mmap.PAGESIZE


def test_threads_share_an_arena(arena: Arena) -> None:
    """Four threads that allocate, fill, check and release never see each other's bytes."""
    damaged: list[int] = []

    def work(mark: int) -> None:
        for round_ in range(300):
            size = 1 + (round_ * 37 + mark) % 200
            with arena.allocate(size) as buffer:
                clean = not any(buffer.view)
                buffer.view[:] = bytes([mark]) * size
                if not clean or buffer.view != bytes([mark]) * size:
                    damaged.append(mark)

    threads = [threading.Thread(target=work, args=(mark,)) for mark in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert damaged == []
    assert arena.usage.used == 0


def test_size_below_the_minimum_is_refused() -> None:
    """A configured size that serves nobody is told before anything is locked."""
    with pytest.raises(LockedMemoryError, match=r"`\[memory\] size` is 4096 bytes, less than the 1048576"):
        Arena.open(MemorySettings(size=4096))


def test_settings_decide_backend_and_size() -> None:
    """What was set is what is had."""
    arena = Arena.open(MemorySettings(backend="mlock", size=2 * 1024 * 1024))
    assert (arena.usage.backend, arena.usage.size) == ("mlock", 2 * 1024 * 1024)
    assert repr(arena) == "<Arena mlock 2097152 bytes>"
    arena.close()


@pytest.mark.parametrize("size", [0, 1, 65536, 65537, 200_000])
def test_wipe_overwrites_all(size: int) -> None:
    """Every byte, at and around its stride, and none beside."""
    data = bytearray(b"\xa5" * (size + 2))
    wipe(memoryview(data)[1 : size + 1])
    assert data == b"\xa5" + bytes(size) + b"\xa5"


def announced(arena: Arena, blocks: int) -> list[LockedBuffer]:
    """The largest blocks that there are, so many of them: what a peer can hold with headers alone."""
    taken: list[LockedBuffer] = []
    size = 16 * 1024 * 1024
    while size and len(taken) < blocks:
        try:
            taken.append(arena.allocate(size))
        except ResourceExhaustedError:
            size //= 2
    return taken


@pytest.mark.parametrize("blocks", [20, 80, 1024])
def test_small_blocks_are_left_whoever_takes_the_rest(monkeypatch: pytest.MonkeyPatch, blocks: int) -> None:
    """As many announced payloads as there are connections leave room for keys and small values."""
    try:
        arena = Arena(open_backing("auto", 32 * 1024 * 1024))
    except LockedMemoryError:
        pytest.skip("needs 32 MiB of locked memory: raise RLIMIT_MEMLOCK, or run the tests as root")
    taken = announced(arena, blocks)
    small = [arena.allocate(48) for _ in range(1000)]
    small.append(arena.allocate(512))
    monkeypatch.setattr(arena_module, "LEAVES", 0)  # the control
    rest = announced(arena, 1024)
    with pytest.raises(ResourceExhaustedError):
        arena.allocate(48)
    for block in (*taken, *small, *rest):
        block.release()
    assert arena.usage.used == 0
    arena.close()
