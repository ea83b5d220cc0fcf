"""An asyncio service and its clients: streams, queues, timeouts, cancellations, generators that are left, failures with their tracebacks."""

import asyncio
import contextlib
import contextvars
import gc
import json
import os
import sys
import time

import proof
import rest

CLIENTS = 20
ROUNDS = 3
REQUESTS_A_ROUND = 60

caller = contextvars.ContextVar("caller", default=None)


class Session:
    """Refers to its service, which refers to it, and to the task that serves it."""

    def __init__(self, service, name):
        self.service, self.name, self.task = service, name, asyncio.current_task()
        self.answers = asyncio.Queue(10)
        self.failures, self.tasks = [], []
        service.sessions[name] = self


class Service:
    def __init__(self):
        self.sessions = {}

    async def serve(self, reader, writer):
        session = Session(self, json.loads(await reader.readline())["name"])
        caller.set(session)
        sender = asyncio.create_task(self.send(session, writer))
        try:
            while line := await reader.readline():
                request = json.loads(line)
                session.tasks = [*session.tasks[-20:], asyncio.create_task(self.answer(session, request))]
        finally:
            sender.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await sender
            del self.sessions[session.name]
            writer.close()

    async def send(self, session, writer):
        while True:
            writer.write(json.dumps(await session.answers.get()).encode() + b"\n")
            await writer.drain()

    async def answer(self, session, request):
        number = request["number"]
        answer = {"number": number}
        try:
            async with (
                asyncio.timeout(0.001) if number % 11 == 0 and sys.version_info >= (3, 11) else contextlib.nullcontext()
            ):
                answer["sum"] = await self.work(number)
        except Exception as error:
            # Kept with its traceback, whose frames keep the session.
            session.failures = [*session.failures[-5:], error]
            answer["error"] = type(error).__name__
        await session.answers.put(answer)

    async def work(self, number):
        if number % 7 == 0:
            raise ValueError(number)
        total = 0
        async for part in parts(number):
            total += part
            if number % 5 == 0 and part > 10:
                # The generator is left as it is, for the event loop to close.
                break
        if number % 11 == 0:
            await asyncio.sleep(1 if sys.version_info >= (3, 11) else 0)
        assert caller.get().service is self
        return total


async def parts(number):
    try:
        for part in range(number % 40):
            await asyncio.sleep(0)
            yield part
    finally:
        parts.closed += 1


parts.closed = 0


def expected(number):
    if number % 7 == 0:
        return {"number": number, "error": "ValueError"}
    if number % 11 == 0 and sys.version_info >= (3, 11):
        return {"number": number, "error": "TimeoutError"}
    values = range(number % 40)
    return {"number": number, "sum": sum(values[:12] if number % 5 == 0 else values)}


async def client(port, name):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(json.dumps({"name": name}).encode() + b"\n")
    right = 0
    for start in range(0, REQUESTS_A_ROUND, 10):
        numbers = [name * 1000 + start + each for each in range(10)]
        for number in numbers:
            writer.write(json.dumps({"number": number}).encode() + b"\n")
        answers = [json.loads(await reader.readline()) for _ in numbers]
        right += sum(answer == expected(answer["number"]) for answer in answers)
        right -= {answer["number"] for answer in answers} != set(numbers)
    writer.close()
    await writer.wait_closed()
    return right


async def main():
    service = Service()
    server = await asyncio.start_server(service.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    # A test of the collector goes on for longer.
    end = time.monotonic() + float(os.environ.get("SOAK_S", 0))
    rounds, settled_blocks = 0, None
    while rounds < ROUNDS or time.monotonic() < end:
        right = sum(await asyncio.gather(*(client(port, name) for name in range(CLIENTS))))
        while service.sessions:
            await asyncio.sleep(0)
        if rounds < ROUNDS or right != CLIENTS * REQUESTS_A_ROUND:
            print("right answers", right, "of", CLIENTS * REQUESTS_A_ROUND)
        gc.collect()
        rounds += 1
        if rounds == 2:
            settled_blocks = sys.getallocatedblocks()
    print("memory at rest", rest.blocks() - settled_blocks < 3000)
    server.close()
    await server.wait_closed()
    proof.leave()


asyncio.run(main())
