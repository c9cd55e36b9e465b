"""What is published under docs/reference, generated from the code, and what was released before.

`make docs` writes it (`python -m published`). Tests hold that the committed files are what
the code says, and that the code still keeps what the released files promised.
"""
