"""Policy files: read strictly, checked as a whole, replaced as a whole.

documents.py    a YAML document of a model       format.py    what a policy file may say
conditions.py   CEL, type-checked at load        files.py     files to the kernel's policy
checks.py       what an author should know       cases.py     tables of cases
holder.py       the policy in force, reloaded
"""

from gatekeeper.platform.policy.cases import CaseResult, run_cases
from gatekeeper.platform.policy.checks import Finding, Names, validate
from gatekeeper.platform.policy.documents import PolicyError
from gatekeeper.platform.policy.files import load_policy, load_with_places
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
