"""The process that `passctrl serve` becomes, without what reads commands: less memory a worker.

python -m gatekeeper.entrypoints.passctrl.serving CONFIG
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Final

UNUSED: Final = ("rich", "greenlet", "watchfiles")
"""Libraries that others load where they are installed, and that nothing here uses: 4 MB."""


def main() -> int:
    from gatekeeper import bootstrap  # noqa: PLC0415  # when it is said what need not be loaded
    from gatekeeper.kernel.errors import InputError  # noqa: PLC0415

    try:
        return bootstrap.serve_forwardauth(Path(sys.argv[1]), os.environ)
    except InputError as error:
        sys.stderr.write(f"error: {error.detail}\npassctrl check says the same without serving\n")
    except OSError as error:
        sys.stderr.write(f"error: the address cannot be had: {error.strerror}\n")
    return 1


if __name__ in {"__main__", "__mp_main__"}:
    for name in UNUSED:
        sys.modules[name] = None  # type: ignore[assignment]  # an import of it fails
if __name__ == "__main__":
    sys.exit(main())
