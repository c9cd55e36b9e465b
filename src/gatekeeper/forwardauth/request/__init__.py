"""The request as its client made it, out of what arrived at the decision port.

reading.py   how an endpoint reads: whom it believes, which headers are guarded; made at load
trust.py     who is a trusted proxy, and the client at the end of a chain of hops
head.py      the one strict pass over the headers
target.py    path and query          host.py   host and port          method.py   the method
original.py  puts them together
views.py     headers, query and cookies as expressions see them, made when they are asked for

Whatever can be read in two ways is refused: a proxy, this code and the application behind them
must not mean three different requests. Nothing here raises for what a client sent, but views:
they are part of evaluating a rule.
"""
