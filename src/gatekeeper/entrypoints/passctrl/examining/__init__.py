"""A gate, examined from outside: what `passctrl doctor` does.

exchange.py     sends requests as they are spelt, and reads answers; bounded in time and size
probes.py       what is sent by someone without a credential
knowledge.py    what each finding means: why it matters, how it is mended in which proxy
examination.py  sends, compares, and finds
"""
