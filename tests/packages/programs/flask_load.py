"""A Flask application behind a threaded server, eight clients at once; every answer is checked, and memory must come to rest."""

import gc
import hashlib
import http.client
import json
import os
import sys
import threading
import time
from http.cookies import SimpleCookie

import proof
import rest
from flask import Flask, Response, abort, jsonify, render_template_string, request, session
from werkzeug.serving import WSGIRequestHandler, make_server

CLIENTS = 8
ROUNDS = 3
REQUESTS_A_ROUND = 40

app = Flask(__name__)
app.secret_key = b"known to all"
recent: dict[int, list[str]] = {}
lock = threading.Lock()


class Quiet(WSGIRequestHandler):
    def log_request(self, *_) -> None:
        pass


@app.get("/page/<int:number>")
def page(number: int) -> str:
    rows = [(each, "<&>" * (each % 5)) for each in range(number % 60)]
    return render_template_string("<ul>{% for a, b in rows %}<li>{{ a }}: {{ b }}</li>{% endfor %}</ul>", rows=rows)


@app.get("/json/<int:number>")
def numbers(number: int) -> Response:
    with lock:
        recent[number % 50] = [str(number)] * (number % 100)
    return jsonify(
        number=number,
        squares=[each * each for each in range(number % 200)],
        words={str(each): "x" * each for each in range(number % 30)},
    )


@app.post("/digest")
def digest() -> dict:
    body = request.get_data()
    return {"length": len(body), "sha256": hashlib.sha256(body).hexdigest()}


@app.get("/count")
def count() -> dict:
    session["count"] = session.get("count", 0) + 1
    return {"count": session["count"]}


@app.get("/stream/<int:number>")
def stream(number: int) -> Response:
    return Response((f"{each},".encode() * 50 for each in range(number % 40)), mimetype="text/csv")


@app.get("/refuse/<int:status>")
def refuse(status: int) -> None:
    abort(status)


def ask(
    port: int, method: str, path: str, body: bytes = b"", headers: dict | None = None
) -> tuple[int, bytes, http.client.HTTPResponse]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    connection.request(method, path, body or None, headers or {})
    response = connection.getresponse()
    content = response.read()
    connection.close()
    return response.status, content, response


def client(port: int, seed: int, answers: list[int]) -> None:
    """Asks for everything in turn and checks each answer."""
    cookie = {}
    right = 0
    for turn in range(REQUESTS_A_ROUND):
        number = seed * 1000 + turn
        status, content, _ = ask(port, "GET", f"/json/{number}")
        answer = json.loads(content)
        right += (
            status == 200
            and answer["number"] == number
            and answer["squares"] == [each * each for each in range(number % 200)]
        )
        status, content, _ = ask(port, "GET", f"/page/{number}")
        right += status == 200 and content.count(b"<li>") == number % 60 and b"<&>" not in content
        body = bytes((seed + each) % 256 for each in range(256)) * (turn * 4)
        status, content, _ = ask(port, "POST", "/digest", body)
        right += json.loads(content) == {"length": len(body), "sha256": hashlib.sha256(body).hexdigest()}
        status, content, response = ask(port, "GET", "/count", headers=cookie)
        cookie = {"Cookie": SimpleCookie(response.headers["Set-Cookie"]).output(header="", attrs=[]).strip()}
        right += json.loads(content) == {"count": turn + 1}
        status, content, _ = ask(port, "GET", f"/stream/{number}")
        right += content == b"".join(f"{each},".encode() * 50 for each in range(number % 40))
        status, content, _ = ask(port, "GET", f"/refuse/{(403, 404, 418)[turn % 3]}")
        right += status == (403, 404, 418)[turn % 3]
    answers.append(right)


server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=Quiet)
serving = threading.Thread(target=server.serve_forever)
serving.start()
rounds, settled_blocks = 0, None
# A test of the collector goes on for longer.
end = time.monotonic() + float(os.environ.get("SOAK_S", 0))
while rounds < ROUNDS or time.monotonic() < end:
    answers: list[int] = []
    clients = [threading.Thread(target=client, args=(server.server_port, seed, answers)) for seed in range(CLIENTS)]
    for each in clients:
        each.start()
    for each in clients:
        each.join()
    if rounds < ROUNDS or sum(answers) != CLIENTS * REQUESTS_A_ROUND * 6:
        print("right answers", sum(answers), "of", CLIENTS * REQUESTS_A_ROUND * 6)
    del clients, each
    gc.collect()
    rounds += 1
    if rounds == 1:
        settled_blocks = sys.getallocatedblocks()
print("memory at rest", rest.blocks() - settled_blocks < 3000)
proof.leave()
server.shutdown()
serving.join()
server.server_close()
