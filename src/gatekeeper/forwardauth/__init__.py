"""Forward auth (PassCtrl): a reverse proxy asks about every request, a chain of rules answers.

    config/     what a configuration may say             agents/    the nine parts of a decision
    request/    the request as its client made it        plan.py    an endpoint, compiled
    dialects/   how each proxy asks and is answered      service.py decides, with the active plan

A decision is a generator: it yields what it needs from outside (a backend's answer, an entry
of the shared cache) and returns an answer. Nothing below `service` awaits or does I/O.
"""
