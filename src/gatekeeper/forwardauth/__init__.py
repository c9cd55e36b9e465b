"""Plane 2, forward auth (PassCtrl): a reverse proxy asks about every request, a chain of rules
answers.

    model.py, ports.py, errors.py   the words of this plane, and what it needs from outside
    vocabulary.py                   the names that expressions know
    config/        what a configuration may say
    request/       the request as its client made it
    dialects/      how each proxy asks and is answered
    agents/        the nine parts of a decision
    plan.py        an endpoint, compiled; checking.py: what its expressions may not read
    decision.py    one decision: the agents, in order
    service.py     decides by the configuration in force, and gives a decision what it asks for
    rehearsal/     the same decision without a proxy: explained, or run as a case
    shadow.py      what a candidate configuration may ask, and what is compared
    redaction.py   what of a decision may be shown
    web/           the ways in: decision port, gRPC, operations
    adapters/      files, backends, issuers, the shared cache, metrics

A decision is a generator: it yields what it needs from outside (a backend's answer, an entry
of the shared cache) and returns an answer. Nothing below `service` awaits or does I/O.
"""
