"""The policy of this suite: played here, and written for PassCtrl in passctrl.yaml.

`app` knows two bearer tokens: alice is let in, mallory is refused, everybody else is asked for
a token. `portal` sends everybody to the login page. Who is let in carries what the decision
was about in X-Groups, so that a test compares it with what the application got.
"""

from proxies.decisions import Say, say
from proxies.loopback import Received

LOGIN = "https://login.example.com/start"
CHALLENGE = 'Bearer realm="app"'
ALICE = "Authorization: Bearer alice"
MALLORY = "Authorization: Bearer mallory"
PORTAL = "Host: portal.example.com"


def seen(question: Received) -> str:
    """Return the original request, as each proxy tells of it."""
    _, mount, rest = question.target.split("/", 2)
    told = {name.lower(): value for name, value in question.headers}
    if mount == "envoy":
        method, scheme, host = question.method, told["x-forwarded-proto"], told["host"]
        target = rest.removeprefix("app")
    elif mount == "ingress-nginx":
        scheme, _, host, target = told["x-original-url"].split("/", 3)
        method, scheme, target = told["x-original-method"], scheme.rstrip(":"), f"/{target}"
    else:
        method, scheme = told["x-forwarded-method"], told["x-forwarded-proto"]
        host, target = told["x-forwarded-host"], told["x-forwarded-uri"]
    return about(method, host, target, scheme=scheme) if host else ""


def about(method: str, host: str, target: str, *, scheme: str = "http") -> str:
    """Write a request in one spelling: a host in lower case with its port, an empty query not."""
    name, _, port = host.lower().partition(":")
    return f"{method} {scheme}://{name.removesuffix('.')}:{port or 80}{target.removesuffix('?')}"


def decide(question: Received) -> Say:
    _, mount, rest = question.target.split("/", 2)
    if rest.startswith("portal"):
        # The two that cannot carry a redirect are told of it in a header.
        if mount in {"nginx", "ingress-nginx"}:
            return say(401, ("x-passctrl-location", LOGIN))
        return say(302, ("location", LOGIN))
    if not (original := seen(question)):
        return say(403)  # nobody knows what it is about
    match question.values("authorization"):
        case ["Bearer alice"]:
            return say(200, ("x-user", "alice"), ("x-groups", original), ("x-email", ""))
        case ["Bearer mallory"]:
            return say(403)
        case _:
            return say(401, ("www-authenticate", CHALLENGE))
