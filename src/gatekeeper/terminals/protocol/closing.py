"""The closing codes: their home is the kernel, where clients may import them."""

from gatekeeper.kernel.terminal.closing import *  # noqa: F403
