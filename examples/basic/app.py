"""A web application that trusts its proxy: it says who the proxy told it is there.

It also says what arrived, which is what `passctrl doctor --echo /` looks at. An application that
is in use should not: what arrives has credentials in it.
"""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class App(BaseHTTPRequestHandler):
    """Answers every request with what it knows of whoever asks."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        said = {
            "user": self.headers["X-User"],
            "role": self.headers["X-Role"],
            "path": self.path,
            "headers": self.headers.items(),
        }
        body = json.dumps(said).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET  # noqa: N815  # the base's names

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base's name
        pass


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), App).serve_forever()
