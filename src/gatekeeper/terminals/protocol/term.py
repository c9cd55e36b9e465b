"""`gk.term.v1`: its home is the kernel, where clients may import it."""

from gatekeeper.kernel.terminal.term import *  # noqa: F403
