from collections.abc import Callable

def packb(o: object, /) -> bytes: ...
def unpackb(
    packed: bytes | bytearray | memoryview,
    /,
    *,
    object_pairs_hook: Callable[[list[tuple[object, object]]], object] = ...,
    ext_hook: Callable[[int, bytes], object] = ...,
    max_str_len: int = ...,
    max_bin_len: int = ...,
    max_ext_len: int = ...,
    max_map_len: int = ...,
    max_array_len: int = ...,
) -> object: ...

class UnpackException(Exception): ...

class Packer:
    def __init__(self, *, buf_size: int = ...) -> None: ...
    def pack(self, o: object, /) -> bytes: ...
