"""Bundles: an archive is fetched, held against its hash, looked at, and unpacked, in view.

fetching.py   the whole way of one, from URL to folder
places.py     which URLs, and which addresses behind them
download.py   HTTP into a file
cache.py      what was fetched before
scanner.py    a virus scanner's opinion
archives.py   zip and tar
unpack.py     what an archive may hold
"""

from __future__ import annotations

from gatekeeper.terminals.runner.bundles.download import Network
from gatekeeper.terminals.runner.bundles.fetching import Fetched, fetch

__all__ = ["Fetched", "Network", "fetch"]
