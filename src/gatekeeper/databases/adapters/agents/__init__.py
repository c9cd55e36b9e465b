"""Agents: reached by signed envelopes over any transport, and the executor behind them.

gateway.py     the `Agents` port: jobs out, results back, each signed
executor.py    the agent's side: an envelope in, an envelope out
results.py     what it answers, as results of jobs
transports.py  how an envelope travels: in this process, pushed, or fetched by its agent
mailbox.py     where envelopes wait to be fetched, and answers to be read
poller.py      the agent's side of that: it dials out
http.py        the routes of both: an agent that listens, a control plane that is polled
"""
