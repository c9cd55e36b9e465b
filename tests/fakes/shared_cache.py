"""The one fake of the `SharedCache` port: a dictionary whose clock and health a test moves.

`tests/contract/test_shared_cache.py` runs the same suite on it and on a real server.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field


@dataclass
class FakeSharedCache:
    """Forgets when `seconds` have passed; gives and keeps nothing while it is not `reachable`.

    `gets` and `puts` have every key it was asked about.
    """

    seconds: float = 0.0
    reachable: bool = True
    gets: list[bytes] = field(default_factory=list)
    puts: list[bytes] = field(default_factory=list)
    _kept: dict[bytes, tuple[bytes, float]] = field(default_factory=dict)

    async def get(self, key: bytes) -> bytes | None:
        self.gets.append(key)
        await asyncio.sleep(0)
        value, ends = self._kept.get(key, (None, 0.0))
        return value if self.reachable and ends > self.seconds else None

    async def put(self, key: bytes, value: bytes, seconds: float) -> None:
        self.puts.append(key)
        await asyncio.sleep(0)
        if self.reachable and seconds > 0:
            self._kept[key] = (value, self.seconds + seconds)
