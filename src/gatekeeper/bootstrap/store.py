"""Setting up the store: its tables by their owner, and the login that control planes work with."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final

from psycopg.conninfo import make_conninfo

from gatekeeper.kernel import scram
from gatekeeper.kernel.secret import Secret
from gatekeeper.platform.postgres.migrations import migrate
from gatekeeper.platform.postgres.roles import allow_login

if TYPE_CHECKING:
    from collections.abc import Sequence

LOGIN: Final = "gatekeeper_control_plane"


async def migrate_store(owner: Secret, application: Secret | None) -> Sequence[str]:
    """Bring the tables up to date and let the application's login work with them.

    Returns the names of the migrations that were applied. Without an application's DSN
    no login is made.
    """
    applied = await migrate(owner)
    if application is not None:
        await allow_login(owner, application)
    return applied


async def prepare_store(owner: Secret) -> Secret:
    """Do the same for a store on this machine; return the DSN of its login, with a new password."""
    password = scram.make_password(secrets.token_bytes(scram.PASSWORD_BYTES))
    application = Secret(make_conninfo(owner.reveal(), user=LOGIN, password=password.reveal()))
    await migrate_store(owner, application)
    return application
