"""Where RESP frames end, and what is in them: as much as the proxy needs.

RESP2 and RESP3 as Redis sends them (no streamed types).
https://redis.io/docs/latest/develop/reference/protocol-spec/
"""

_LINES = b"+-:_,#("
_BLOBS = b"$!="
_ARRAYS = b"*~>"
_MAPS = b"%|"


def frame_end(buffer: bytes | bytearray, start: int = 0) -> int | None:
    """Return where the frame at ``start`` ends; None if it is incomplete."""
    at, open_values = start, 1
    while open_values:
        line_end = buffer.find(b"\r\n", at)
        if line_end < 0:
            return None
        kind, head = buffer[at], bytes(buffer[at + 1 : line_end])
        at = line_end + 2
        open_values -= 1
        if kind in _BLOBS:
            size = int(head)
            at += size + 2 if size >= 0 else 0
            if at > len(buffer):
                return None
        elif kind in _ARRAYS:
            open_values += max(int(head), 0)
        elif kind in _MAPS:
            # An attribute (|) precedes the value that it describes.
            open_values += 2 * int(head) + (kind == ord("|"))
        elif kind not in _LINES:
            raise ValueError(f"not RESP: {bytes(buffer[start : start + 60])!r}")
    return at


def flat_blobs(frame: bytes) -> list[bytes]:
    """Return a frame's blobs and simple values in order, without nulls."""
    values: list[bytes] = []
    at = 0
    while at < len(frame):
        line_end = frame.index(b"\r\n", at)
        kind, head = frame[at], frame[at + 1 : line_end]
        at = line_end + 2
        if kind in _BLOBS:
            if (size := int(head)) >= 0:
                values.append(frame[at : at + size])
                at += size + 2
        elif kind in _LINES:
            values.append(head)
    return values
