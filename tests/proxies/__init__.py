"""Real proxies for tests, and what stands on both sides of them.

servers.py      starts nginx, Traefik, Caddy, Envoy and HAProxy with the files of examples/proxies
files.py        starts them, and PassCtrl itself, with files that a test wrote
decisions.py    the decision service, played: records what it is asked, answers what a test says
application.py  the application behind the proxy: tells what arrived, echoes WebSocket messages
client.py       sends bytes as they are, and reads the answer
"""
