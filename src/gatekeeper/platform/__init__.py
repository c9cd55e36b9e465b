"""The only home of each outside library, one folder per neighbour.

    postgres/   pool, migrations, the embedded server     queue/      jobs in PostgreSQL
    audit/      outbox, sequencer, checkpoints            http/       application factory, problems
    oidc/       identity tokens, the development issuer   crypto/     keys, envelopes, sealing
    policy/     policy files and CEL conditions           telemetry/  logs, metrics
    settings/   configuration files and environment       tasks/      supervised asyncio tasks

Nothing here knows a plane.
"""
