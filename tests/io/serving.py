"""A server of the files of a folder, and of parts of them, on the loopback address, in a process of its own.

GDAL keeps Python's lock while it opens a file, so that a thread of the same process could not answer it.

    python tests/io/serving.py FOLDER        prints its port, and serves until it is ended

/locked/... is forbidden, /whole/... sends whole files whatever part is asked for, /s3/... is a bucket, and /sent
answers how many bytes were sent so far.
"""

import re
import sys
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Handler(SimpleHTTPRequestHandler):
    """Answers GET and HEAD, with ranges."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        """Print nothing."""

    def do_HEAD(self):
        """Answer without a body."""
        self.answer(body=False)

    def do_GET(self):
        """Answer."""
        self.answer(body=True)

    def answer(self, *, body):
        """Send a file, a part of it, or an error."""
        part = not self.path.startswith("/whole/")
        path = Path(self.translate_path(re.sub("^/(?:s3|whole)/", "/", self.path)))
        if self.path == "/sent":
            return self.say(200, str(self.server.sent).encode(), body, count=False)
        if self.path.startswith("/locked/") or not path.is_file():
            return self.say(403 if self.path.startswith("/locked/") else 404, b"", body)
        data = path.read_bytes()
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")) if part else None
        if asked is None:
            return self.say(200, data, body, {"Accept-Ranges": "bytes" if part else "none"})
        first, last = int(asked[1]), min(int(asked[2] or len(data)), len(data) - 1)
        place = {"Content-Range": f"bytes {first}-{last}/{len(data)}", "Accept-Ranges": "bytes"}
        return self.say(206, data[first : last + 1], body, place)

    def say(self, status, data, body, headers=None, *, count=True):
        """Send a status, headers and a body."""
        self.send_response(status)
        dated = {"Last-Modified": "Sun, 29 Nov 2026 10:00:00 GMT", "ETag": '"1"', "Content-Length": str(len(data))}
        for name, text in {**dated, **(headers or {})}.items():
            self.send_header(name, text)
        self.end_headers()
        if body:
            self.server.sent += len(data) if count else 0
            try:
                self.wfile.write(data)
            except OSError:  # who asked has read enough
                self.close_connection = True


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=sys.argv[1]))
    server.daemon_threads, server.sent = True, 0
    print(server.server_address[1], flush=True)
    server.serve_forever()
