"""What `passctrl init` writes: a configuration, and a folder for each proxy.

`examples/proxies` has the same files with the defaults; a test compares them. A mark like
@ENDPOINT@ stands for a value that was checked before it is written.
"""
