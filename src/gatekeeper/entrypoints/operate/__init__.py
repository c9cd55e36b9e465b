"""The commands that run or set up parts of Gatekeeper on this machine."""
