"""What `passctrl init` writes works as it stands: a real proxy, PassCtrl, an application."""

import shutil
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from gatekeeper.entrypoints.passctrl.init import Proxy
from gatekeeper.entrypoints.passctrl.main import app
from gatekeeper.platform.processes.listening import free_port
from proxies.application import Application
from proxies.client import ask
from proxies.files import passctrl_on, proxy_on
from proxies.servers import EXAMPLES


def controller(folder: Path, *, asked: int, application: int) -> None:
    """Do for the ingress what its controller does: make nginx's file of it."""
    ingress = yaml.safe_load((folder / "ingress.yaml").read_text())
    url = ingress["metadata"]["annotations"]["nginx.ingress.kubernetes.io/auth-url"]
    headers = ingress["metadata"]["annotations"][
        "nginx.ingress.kubernetes.io/auth-response-headers"
    ]
    text = (EXAMPLES / "ingress-nginx" / "generated.conf").read_text()
    assert url.endswith(f":{asked}/ingress-nginx/gate")
    assert headers == "X-User,X-Groups,X-Email"
    text = text.replace("127.0.0.1:8080/ingress-nginx/app", f"127.0.0.1:{asked}/ingress-nginx/gate")
    (folder / "generated.conf").write_text(
        text.replace("127.0.0.1:9000", f"127.0.0.1:{application}")
    )


@pytest.mark.parametrize("proxy", Proxy)
def test_what_is_written_lets_in_who_has_the_token_and_nobody_else(
    proxy: Proxy, tmp_path: Path, application: Application
) -> None:
    gate, files, asked = tmp_path / "gate", tmp_path / "files", free_port()
    upstream = "app:9000" if proxy is Proxy.INGRESS_NGINX else f"127.0.0.1:{application.port}"
    done = CliRunner().invoke(
        app,
        ["init", "--proxy", proxy, "--endpoint", "gate", "--listen", f"127.0.0.1:{asked}",
         "--upstream", upstream, str(gate)],
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    shutil.copytree(gate, files, ignore=shutil.ignore_patterns("secrets", "config.yaml"))
    if proxy is Proxy.INGRESS_NGINX:
        controller(files, asked=asked, application=application.port)
    credential = (gate / "secrets" / "credential").read_text().strip()

    with (
        passctrl_on(gate / "config.yaml", port=asked, endpoint="gate"),
        proxy_on(proxy, files) as port,
    ):
        application.received.clear()
        refused = ask(port, "/reports", "X-User: root")
        guessed = ask(port, "/reports", "Authorization: Bearer guessed")
        assert application.received == []
        arrived = ask(port, "/reports", credential, "X-User: root", "X-Email: root").arrived

    assert (refused.status, refused.values("www-authenticate")) == (401, ['Bearer realm="gate"'])
    assert (guessed.status, guessed.values("www-authenticate")) == (401, ['Bearer realm="gate"'])
    assert arrived.twins("x-user") == ["ada"]
    assert arrived.twins("x-groups") == ["people"]
    assert arrived.twins("x-email") in ([], [""])
