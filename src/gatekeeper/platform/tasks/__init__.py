"""Tasks of one process.

supervisor.py   owns those in the background: starts, watches and stops them together
waiting.py      lets requests wait until something is said
"""

from gatekeeper.platform.tasks.supervisor import Supervisor, run_together
from gatekeeper.platform.tasks.waiting import Waiting, within

__all__ = ["Supervisor", "Waiting", "run_together", "within"]
