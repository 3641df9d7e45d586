"""The storefront: GET / says its version and how many orders there are, POST /order places one, POST /stop ends it."""

import sys
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

port, version, database = int(sys.argv[1]), sys.argv[2], sys.argv[3]


def orders():
    """How many were placed."""
    with urllib.request.urlopen(f"{database}/orders", timeout=5) as answer:
        return int(answer.read() or b"0")


def place():
    """One more."""
    content = str(orders() + 1).encode()
    urllib.request.urlopen(
        urllib.request.Request(f"{database}/orders", data=content, method="PUT"), timeout=5
    )


class Requests(BaseHTTPRequestHandler):
    """One request."""

    def do_GET(self):
        """The page."""
        self._answer(f"Shop {version}, {orders()} orders\n".encode())

    def do_POST(self):
        """An order, or the end."""
        if self.path == "/stop":
            threading.Thread(target=self.server.shutdown).start()
            self._answer(b"stopping\n")
        else:
            place()
            self._answer(b"placed\n")

    def _answer(self, content):
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        """Quiet."""


ThreadingHTTPServer(("127.0.0.1", port), Requests).serve_forever()
