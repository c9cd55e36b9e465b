"""The gateway: a process between clients and runners. It lets in, and splices bytes."""
