"""The ways in. What is decided is for the service to say; here are sockets, bytes and processes.

The decision port (proxies ask, nobody else):
    port.py      a connection      parsing.py, writing.py   its bytes, pure      limits.py   bounds
    ext_authz.py, ext_authz_messages.py   the same for Envoy, by gRPC
    shadowing.py   what is asked there, asked of a candidate too
The operations listener (people and monitoring ask):
    operations.py   its paths      page.py, pages/   its page
    answering.py    what one worker tells of itself      gathering.py   all workers as one
Both are served by workers.py, in one process (worker.py) or several, at the sockets of
listening.py.
"""
