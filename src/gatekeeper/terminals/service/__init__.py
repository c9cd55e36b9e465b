"""What a caller can do with terminals. Each use-case: load, decide, act, record.

terminals.py   ask for one, see, list and end them
opening.py     what becomes of a request that is allowed
attaching.py   tickets, and links for others
driving.py     input, screen, wait and recording: what programs do without attaching
seeing.py      who may do what with a terminal that there is

A foreseen refusal is returned as a `Refusal`; the store's transaction holds the terminal, its
jobs and its evidence together.
"""

from gatekeeper.terminals.service.attaching import AttachService
from gatekeeper.terminals.service.driving import DriveService
from gatekeeper.terminals.service.seeing import Seeing
from gatekeeper.terminals.service.terminals import TerminalService

__all__ = ["AttachService", "DriveService", "Seeing", "TerminalService"]
