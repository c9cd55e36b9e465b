"""WebSocket frames, right or wrong."""

import struct


def frame(payload: bytes, *, opcode: int = 2, fin: bool = True, masked: bool = True) -> bytes:
    """Write one frame; masked with zeros, so that the payload is seen in it."""
    first = opcode | (0x80 if fin else 0)
    mark = 0x80 if masked else 0
    size = len(payload)
    if size < 126:
        head = bytes((first, mark | size))
    elif size < 65536:
        head = bytes((first, mark | 126)) + struct.pack(">H", size)
    else:
        head = bytes((first, mark | 127)) + struct.pack(">Q", size)
    return head + (bytes(4) if masked else b"") + payload
