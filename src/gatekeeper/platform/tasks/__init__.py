"""Background tasks that are owned: named, watched, and stopped together.

supervisor.py   starts them, notices when one ends, stops them and names what is stuck
"""

from gatekeeper.platform.tasks.supervisor import Supervisor, run_together

__all__ = ["Supervisor", "run_together"]
