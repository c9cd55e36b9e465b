"""Adapters of the terminal plane.

store/         terminals in PostgreSQL        launchers/    who starts them
tickets.py     the keys of tickets            recordings.py the folder that runners write
dispatch.py    jobs of the queue to use-cases
"""
