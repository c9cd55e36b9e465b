"""The jobs of terminals: launch, and end until it is proven. Each is safe to run again.

A handler may be stopped at any point, also by kill -9: what it did is either committed
together with the end of its job, or found and finished by the next run.

launching.py   pending → ready | failed      ending.py     → expired → cleaned
"""
