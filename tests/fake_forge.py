"""A server on the loopback that stands in for GitHub and GitLab, as far as tools.forge uses them."""

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit


class FakeForge(ThreadingHTTPServer):
    """Keeps the comments and pull requests that were posted; only `token` may write."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.token = "secret"
        self.comments = []  # {"id", "body"}
        self.pull_requests = []  # as they were posted, with their number
        # `shutdown` waits for the end of a poll, which by default takes half a second.
        threading.Thread(target=self.serve_forever, args=[0.01], daemon=True).start()

    @property
    def address(self):
        return f"http://127.0.0.1:{self.server_port}"

    def github(self):
        return {"GITHUB_API_URL": self.address, "GITHUB_REPOSITORY": "us/ours", "GITHUB_TOKEN": self.token} | {
            "PULL_REQUEST": "7"
        }

    def gitlab(self):
        return {"CI_API_V4_URL": self.address, "CI_PROJECT_ID": "5", "GITLAB_TOKEN": self.token} | {
            "CI_MERGE_REQUEST_IID": "7"
        }


class _Handler(BaseHTTPRequestHandler):
    server: FakeForge

    def _serve(self):
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or "null")
        given = self.headers.get("PRIVATE-TOKEN") or self.headers.get("Authorization", "").removeprefix("Bearer ")
        if self.command != "GET" and given != self.server.token:
            return self._answer(403, {"message": "Resource not accessible by integration"})
        parts = urlsplit(self.path)
        for pattern, kept in (
            (r"/repos/us/ours/issues/(?:7/)?comments(?:/(\d+))?", self.server.comments),
            (r"/projects/5/merge_requests/7/notes(?:/(\d+))?", self.server.comments),
            (r"/repos/us/ours/pulls(?:/(\d+))?", self.server.pull_requests),
            (r"/projects/5/merge_requests(?:/(\d+))?", self.server.pull_requests),
        ):
            if found := re.fullmatch(pattern, parts.path):
                return self._keep(kept, found[1], body, parse_qs(parts.query))
        return self._answer(404, {"message": f"no {self.path}"})

    def _keep(self, kept, number, body, query):
        if self.command == "GET":
            size, page = int(query["per_page"][0]), int(query["page"][0])
            return self._answer(200, kept[(page - 1) * size : page * size])
        if self.command == "POST":
            source = body.get("head")  # GitHub takes a name and returns an object
            given = body | ({"head": {"ref": source}} if source else {})
            kept.append(given | dict.fromkeys(("id", "number", "iid"), len(kept) + 1))
            return self._answer(201, kept[-1])
        kept[int(number) - 1] |= body
        return self._answer(200, kept[int(number) - 1])

    do_GET = do_POST = do_PUT = do_PATCH = _serve

    def _answer(self, status, body):
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, *_):
        pass
