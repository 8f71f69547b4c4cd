"""A web server on this machine that serves files well, or badly in the ways that servers do."""

import contextlib
import hashlib
import http.server
import threading


class FileServer:
    """Serves `files` by path; the next `cuts` answers end half way."""

    def __init__(self):
        self.files: dict[str, bytes] = {}
        self.cuts = 0
        self.knows_ranges = True
        self.ranges: list[str] = []  # what was asked for, "" for the whole
        self.on_chunk = lambda: None
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()
        self._closed = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self):
        if not self._closed:
            self._closed = True
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()


def _handler(server):
    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *args):
            pass

        def do_GET(self):
            server.ranges.append(self.headers.get("Range", ""))
            if self.path not in server.files:
                return self.send_error(404)
            content = server.files[self.path]
            tag = f'"{hashlib.md5(content).hexdigest()}"'
            start = self._start(tag)
            if start >= len(content) > 0:
                return self.send_error(416)
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            self.send_header("Content-Length", str(len(content) - start))
            self.send_header("ETag", tag)
            self.end_headers()
            rest = content[start:]
            if server.cuts:
                server.cuts -= 1
                rest = rest[: (len(rest) + 1) // 2]
            self.wfile.write(rest)
            return None

        def _start(self, tag):
            asked = self.headers.get("Range", "")
            same = self.headers.get("If-Range", tag) == tag
            return int(asked[6:-1]) if asked and same and server.knows_ranges else 0

    return Handler


@contextlib.contextmanager
def file_server():
    """A running one."""
    server = FileServer()
    try:
        yield server
    finally:
        server.close()
