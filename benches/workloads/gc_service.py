"""A web service with a long memory: `python gc_service.py OBJECTS [--no-gc | --young]` serves until its standard input ends.

It answers `GET /user/N` over HTTP/1.1 on a port of its own choice, which it prints first, as a JSON line. OBJECTS objects live
in it, half of them a catalogue, half the sessions of its users. It has been running for a while: all of it was renewed in
random order, more than once. A request renews its user's session, so that what dies is old and lies anywhere, and leaves a few
objects in cycles, as frameworks do. The collector is as the interpreter has it, or never looks at the oldest generation, or is off.

`GET /figures` answers with what the process says of itself.
"""

import asyncio
import gc
import json
import random
import sys

import collecting
from gc_heaps import Recycled

# Tracked objects of a session: itself, its list, and a list an event.
SESSION_OBJECTS = 30
EVENTS = SESSION_OBJECTS - 2
ROWS = 20


class Session:
    """What the service remembers of a user."""

    __slots__ = ("events", "user", "visits")

    def __init__(self, user, visits):
        self.user, self.visits = user, visits
        self.events = [[user, visits, number] for number in range(EVENTS)]


class Request:
    """A request knows its response, and the response its request."""

    def __init__(self, path):
        self.path = path
        self.response = Response(self)


class Response:
    def __init__(self, request):
        self.request = request
        self.headers = {"request": request}
        self.rows = []


class Service:
    """The catalogue, the sessions, and how a request is answered."""

    def __init__(self, objects):
        self.catalogue = Recycled(objects // 2 // Recycled.objects_each).all
        users = range(max(1, objects // 2 // SESSION_OBJECTS))
        self.sessions = {user: Session(user, 0) for user in users}
        for user in random.choices(users, k=3 * len(users)):
            self.renewed(user)

    def renewed(self, user):
        """A new session in place of the user's last."""
        session = self.sessions[user] = Session(user, self.sessions[user].visits + 1)
        return session

    def answer(self, path):
        """The body of a response, as bytes."""
        if path == "/figures":
            return json.dumps(figures()).encode()
        request = Request(path)
        user = int(path.rpartition("/")[2]) % len(self.sessions)
        session = self.renewed(user)
        response = request.response
        for record in random.choices(self.catalogue, k=ROWS):
            response.rows.append({"number": record.pair[0], "fields": record.fields, "request": request})
        rows = [{"number": row["number"], "name": f"item {row['fields']['number']}"} for row in response.rows]
        return json.dumps({"user": user, "visits": session.visits, "rows": rows}).encode()


class Connection(asyncio.Protocol):
    """Requests that come one after the other on one connection, without bodies."""

    def __init__(self, service):
        self.service = service
        self.unread = b""

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.unread += data
        while b"\r\n\r\n" in self.unread:
            head, _, self.unread = self.unread.partition(b"\r\n\r\n")
            body = self.service.answer(head.split(b" ", 2)[1].decode())
            self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))


def figures():
    """What the process says of itself."""
    generational = sys.implementation.name == "cpython"
    counted = [generation["collections"] for generation in gc.get_stats()] if generational else []
    return {
        "collections": counted,
        "peak_rss_mib": round(collecting.peak_resident_mib(), 1),
        "collected_by": collecting.collected_by(),
        "served_by": collecting.served_by(),
    }


async def serve(service):
    """Serve until standard input ends."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(service), "127.0.0.1", 0)
    print(json.dumps({"port": server.sockets[0].getsockname()[1]}), flush=True)
    ended = asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), ended.set)
    await ended.wait()
    server.close()


def main():
    random.seed(1)
    # As services do: no collection while the heap is built, then one that puts all of it into the oldest generation.
    gc.disable()
    service = Service(int(sys.argv[1]))
    gc.collect()
    if "--young" in sys.argv:
        gc.set_threshold(*gc.get_threshold()[:2], 1 << 30)
    if "--no-gc" not in sys.argv:
        gc.enable()
    asyncio.run(serve(service))


if __name__ == "__main__":
    main()
