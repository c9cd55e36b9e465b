"""`python -m gatekeeper` is `gk`."""

from gatekeeper.entrypoints.gk import main

main()
