"""The `Launcher` port.

local.py       the runner of one machine, by signed orders
translate.py   between orders, results and values
"""
