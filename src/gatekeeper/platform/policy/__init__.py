"""Policy files: read strictly, checked as a whole, replaced as a whole.

conditions.py   CEL, type-checked at load        files.py    YAML to the kernel's policy
holder.py       the policy in force, reloaded    checks.py   validate, and tables of cases
"""

from gatekeeper.platform.policy.checks import CaseResult, Finding, Names, run_cases, validate
from gatekeeper.platform.policy.files import PolicyError, load_policy, load_with_places
from gatekeeper.platform.policy.holder import PolicyHolder

__all__ = [
    "CaseResult",
    "Finding",
    "Names",
    "PolicyError",
    "PolicyHolder",
    "load_policy",
    "load_with_places",
    "run_cases",
    "validate",
]
