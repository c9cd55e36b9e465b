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
    """Return method and target of the original request, as each proxy tells them.

    An empty query is none.
    """
    _, mount, rest = question.target.split("/", 2)
    if mount == "envoy":
        method, target = question.method, rest.removeprefix("app")
    elif mount == "ingress-nginx":
        method = question.value("x-original-method") or ""
        target = "/" + (question.value("x-original-url") or "").split("/", 3)[3]
    else:
        method = question.value("x-forwarded-method") or ""
        target = question.value("x-forwarded-uri") or ""
    return f"{method} {target.removesuffix('?')}"


def decide(question: Received) -> Say:
    _, mount, rest = question.target.split("/", 2)
    if rest.startswith("portal"):
        # The two that cannot carry a redirect are told of it in a header.
        if mount in {"nginx", "ingress-nginx"}:
            return say(401, ("x-passctrl-location", LOGIN))
        return say(302, ("location", LOGIN))
    match question.values("authorization"):
        case ["Bearer alice"]:
            return say(200, ("x-user", "alice"), ("x-groups", seen(question)), ("x-email", ""))
        case ["Bearer mallory"]:
            return say(403)
        case _:
            return say(401, ("www-authenticate", CHALLENGE))
