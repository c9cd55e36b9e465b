"""`passctrl`: forward auth by itself. The same commands as `gk forwardauth`.

A command is a file of its name. `starting/` is what init writes, `examining/` what doctor does.
"""
