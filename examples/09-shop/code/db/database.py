"""A very small database: GET and PUT of /NAME, each a file of its folder; POST /stop ends it."""

import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

port, folder = int(sys.argv[1]), Path(sys.argv[2])


class Requests(BaseHTTPRequestHandler):
    """One request."""

    def do_GET(self):
        """What is kept under a name; nothing yet is empty."""
        path = folder / self.path.strip("/").replace("/", "_")
        self._answer(path.read_bytes() if path.is_file() else b"")

    def do_PUT(self):
        """Keep it."""
        content = self.rfile.read(int(self.headers["Content-Length"]))
        (folder / self.path.strip("/").replace("/", "_")).write_bytes(content)
        self._answer(b"kept\n")

    def do_POST(self):
        """The end."""
        self._answer(b"stopping\n")
        threading.Thread(target=self.server.shutdown).start()

    def _answer(self, content):
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        """Quiet."""


folder.mkdir(parents=True, exist_ok=True)
ThreadingHTTPServer(("127.0.0.1", port), Requests).serve_forever()
