"""The login that gateways work with: they can claim tickets and look places up, no more."""

from __future__ import annotations

import secrets
from typing import Final

from psycopg.conninfo import make_conninfo

from gatekeeper.kernel import scram
from gatekeeper.kernel.secret import Secret
from gatekeeper.platform.postgres.roles import GATEWAY, allow_login

LOGIN: Final = "gatekeeper_gateway_local"


async def prepare_gateway_login(owner: Secret) -> Secret:
    """Make the login in a store on this machine; return its DSN, with a new password."""
    password = scram.make_password(secrets.token_bytes(scram.PASSWORD_BYTES))
    login = Secret(make_conninfo(owner.reveal(), user=LOGIN, password=password.reveal()))
    await allow_login(owner, login, member_of=GATEWAY)
    return login
