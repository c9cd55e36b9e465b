"""The words all planes share, and the rules over them.

Admission: values and pure functions only. No asyncio, no socket, no file, no
library that does I/O; time and randomness arrive as arguments. A word enters
when two planes use it with the same meaning.
"""
