"""Serves the page and acts as the app's backend: holds the hub's key and gets tokens for the page."""

import json
import os
import re
import sys
import urllib.request
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

HUB = os.environ.get("HOOKHUB_URL", "http://127.0.0.1:8080")
KEY = os.environ.get("KEY") or sys.exit("set KEY to a key of the hub")
PORT = int(os.environ.get("PORT", "8000"))
TTL_S = 300


def token(order):
    """Gets a token from the hub that reads only the events of this order."""
    request = urllib.request.Request(
        f"{HUB}/v1/stream-tokens",
        json.dumps({"types": [f"order.{order}.*"], "ttl_s": TTL_S}).encode(),
        {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)["token"]


class Backend(SimpleHTTPRequestHandler):
    def do_POST(self):
        asked = urlsplit(self.path)
        order = parse_qs(asked.query).get("order", [""])[0]
        if asked.path != "/token" or not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", order):
            return self.answer(404, {"detail": "expected POST /token?order=A-1001"})
        # A real backend authenticates the user here, and checks that the order is theirs.
        try:
            access = {"hub": HUB, "token": token(order), "ttl_s": TTL_S, "from": "earliest"}
        except (OSError, ValueError, KeyError) as error:
            return self.answer(502, {"detail": f"the hub gave no token: {error}"})
        return self.answer(200, access)

    def answer(self, status, body):
        body = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)


print(f"http://127.0.0.1:{PORT}/?order=A-1001", flush=True)
here = partial(Backend, directory=Path(__file__).parent)
ThreadingHTTPServer(("127.0.0.1", PORT), here).serve_forever()
