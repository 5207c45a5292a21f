"""Stands for Grafana, which no package index has: what Ray's dashboard asks of it, and the address of a dashboard."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

from tests.support.monitoring import DASHBOARD

PAGE = Path(__file__).with_name("dashboard.html")
"""Draws a dashboard from a live Prometheus: ``draw(dashboard, url)``."""


@contextmanager
def grafana(prometheus_url: str) -> Iterator[str]:
    """Its address; it has k8s/monitoring's dashboard under its ``uid`` and no other. Ends with the block."""
    dashboard = DASHBOARD.read_text()
    drawn = f"{PAGE.read_text()}<body><script>draw({dashboard}, {json.dumps(prometheus_url)})</script>"
    answers = {
        "/api/health": ("application/json", '{"database": "ok"}'),
        f"/d/{json.loads(dashboard)['uid']}/": ("text/html", drawn),
    }

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            kind, text = answers.get(urlsplit(self.path).path, ("text/plain", ""))
            self.send_response(200 if text else 404)
            self.send_header("Content-Type", kind)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
