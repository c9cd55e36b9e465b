"""The jobs of terminals: launch, end until it is proven, and listen for runners. Each is safe
to run again.

A handler may be stopped at any point, also by kill -9: what it did is either committed
together with the end of its job, or found and finished by the next run.

launching.py   pending → ready | failed      ending.py     → expired → cleaned
listening.py   ready → ended, of a runner that is not heard
retention.py   recordings whose time is over; no job of the queue: each control plane looks
"""
