"""The HTTP neighbour: application factory, problem responses, limits on what is read.

app.py        the application and its middleware     problems.py   code to status, in one table
context.py    what is known of a request             openapi.py    how the API describes itself
health.py     whether it lives, and its metrics      rates.py      how often a caller may call
requests.py   what requests say in every plane       watch.py      waiting for changes, and streams
envelopes.py  signed messages, as they are sent and taken
"""
