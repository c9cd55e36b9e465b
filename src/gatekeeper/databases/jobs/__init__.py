"""The jobs of the control plane: make logins, end logins. Each is safe to run again.

A handler may be stopped at any point, also by kill -9: what it did is either
committed together with the end of its job, or found and finished by the next run.
It is given jobs of one target that are due together, and answers each on its own.

issuing.py     pending → ready | failed        ending.py    → expired → cleaned
cleaning.py    what is overdue at a target     asking.py     sessions before their agent
"""
