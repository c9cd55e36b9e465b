"""The only home of each outside library, one folder per neighbour.

    postgres/   pool, migrations, the embedded server     queue/      jobs in PostgreSQL
    audit/      outbox, sequencer, checkpoints            http/       application factory, problems
    oidc/       identity tokens, the development issuer   crypto/     keys, envelopes, sealing
    policy/     policy files and CEL conditions           telemetry/  logs, metrics, traces
    tasks/      asyncio tasks, in the background or waiting
    documents/  YAML, TOML and JSON, with lines
    expressions/  CEL, templates and patterns             pages/      HTML from templates
    outbound/   HTTP to whom a configuration names        valkey/     a cache that processes share
    processes/  several processes of one service, as one

Nothing here knows a plane.
"""
