"""Agents: reached by signed envelopes over any transport, and the executor behind them.

gateway.py     the `Agents` port: jobs out, results back, each signed
executor.py    the agent's side: an envelope in, an envelope out
transports.py  how an envelope travels: in this process, pushed, or polled for
"""
