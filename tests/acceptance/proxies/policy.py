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
    """Return method, host and target of the original request, as each proxy tells them.

    A host is in lower case, without its port; an empty query is none.
    """
    _, mount, rest = question.target.split("/", 2)
    told = {name.lower(): value for name, value in question.headers}
    if mount == "envoy":
        method, host, target = question.method, told["host"], rest.removeprefix("app")
    elif mount == "ingress-nginx":
        _, _, host, target = told["x-original-url"].split("/", 3)
        method, target = told["x-original-method"], f"/{target}"
    else:
        method, host = told["x-forwarded-method"], told["x-forwarded-host"]
        target = told["x-forwarded-uri"]
    return about(method, host, target)


def about(method: str, host: str, target: str) -> str:
    return f"{method} {host.lower().partition(':')[0]} {target.removesuffix('?')}"


def decide(question: Received) -> Say:
    _, mount, rest = question.target.split("/", 2)
    if rest.startswith("portal"):
        # The two that cannot carry a redirect are told of it in a header.
        if mount in {"nginx", "ingress-nginx"}:
            return say(401, ("x-passctrl-location", LOGIN))
        return say(302, ("location", LOGIN))
    original = seen(question)
    if "  " in original:
        return say(403)  # a part of it was not told
    match question.values("authorization"):
        case ["Bearer alice"]:
            return say(200, ("x-user", "alice"), ("x-groups", original), ("x-email", ""))
        case ["Bearer mallory"]:
            return say(403)
        case _:
            return say(401, ("www-authenticate", CHALLENGE))
