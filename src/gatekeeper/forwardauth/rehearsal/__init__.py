"""Decisions without a proxy: a request is told, answers from outside are recorded, nothing is kept.

message.py     a request as its client sends it, of its text or its parts
telling.py     what a proxy would tell of it: the reverse of `dialects/`
replaying.py   drives a decision with recorded answers
explaining.py  says what each agent did: `/explain`, `passctrl explain`
cases.py       tables of cases, and what each came to: `passctrl test`, and before a reload

The plan, the dialect and the decision are those of the decision port: what is rehearsed is what
is served. `config/recorded.py` says what may be told and recorded.
"""
