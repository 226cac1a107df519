"""Workers: a handler for each message, some at a time; they stop without losing or repeating work."""

import asyncio
import inspect
import logging
import signal
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any, Awaitable, Callable, Dict, Optional, Sequence, Set, Union

from ._client import SERVERS, Client
from ._consumer import Consumer
from ._errors import LeaseLost, QueuedError
from ._message import Message, MessageData
from ._tls import Tls

Handler = Union[Callable[[Message], Awaitable[Any]], Callable[[MessageData], Any]]
_log = logging.getLogger("queued.worker")


class Worker:
    """Runs ``handler`` for each message of ``queues``, at most ``parallel`` at a time.

    A handler that returns acks its message; one that raises fails it, ``Reject`` and ``Release`` excepted. A coroutine
    runs in the event loop and is cancelled if its lease is lost. Any other function runs in ``executor``, threads if
    there is none; a process pool needs a handler that can be pickled.
    """

    def __init__(
        self,
        client: Client,
        queues: Union[str, Sequence[str]],
        handler: Handler,
        *,
        parallel: int = 1,
        prefetch: int = 0,
        lease: Optional[float] = None,
        grace: float = 30.0,
        executor: Optional[Executor] = None,
    ) -> None:
        self._client = client
        self._queues = queues
        self._handler: Callable[[Any], Any] = handler
        self._is_async = inspect.iscoroutinefunction(handler)
        self._parallel = parallel
        self._prefetch = prefetch
        self._lease = lease
        self._grace = grace
        self._executor = executor
        self._consumer: Optional[Consumer] = None
        self._running: "Dict[Message, asyncio.Task[None]]" = {}
        self._stopped = False

    def stop(self) -> None:
        """Takes no further message; ``run`` returns when the handlers have, ``grace`` seconds at most."""
        self._stopped = True
        if self._consumer is not None:
            self._consumer.stop()

    def hurry(self) -> None:
        """Gives back at once what is being worked on."""
        for task in list(self._running.values()):
            task.cancel()

    async def run(self) -> None:
        """Works until it is stopped."""
        own = None if self._is_async or self._executor else ThreadPoolExecutor(self._parallel, "queued-worker")
        room = asyncio.Semaphore(self._parallel)
        consumer = self._client.consume(self._queues, credit=self._parallel + self._prefetch, lease=self._lease)
        consumer.on_lost = self._on_lost
        self._consumer = consumer
        if self._stopped:
            consumer.stop()
        try:
            async with consumer as messages:
                async for message in messages:
                    await room.acquire()
                    if self._stopped:
                        room.release()
                        await self._settle(message, asyncio.CancelledError())
                        continue
                    task = asyncio.get_running_loop().create_task(self._handle(message, own or self._executor))
                    self._running[message] = task
                    task.add_done_callback(lambda _, message=message: self._done(message, room))  # type: ignore[misc]
                # Leases are renewed until the last handler has ended.
                await self._finish()
        finally:
            self._consumer = None
            if own is not None:
                own.shutdown(wait=False)

    async def _finish(self) -> None:
        tasks: "Set[asyncio.Task[None]]" = set(self._running.values())
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=self._grace)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late)

    def _done(self, message: Message, room: asyncio.Semaphore) -> None:
        self._running.pop(message, None)
        room.release()

    def _on_lost(self, message: Message) -> None:
        task = self._running.get(message)
        _log.warning("the lease of %r has ended while it was worked on", message)
        if task is not None:
            task.cancel()

    async def _handle(self, message: Message, executor: Optional[Executor]) -> None:
        error: Optional[BaseException] = None
        try:
            if self._is_async:
                await self._handler(message)
            else:
                loop = asyncio.get_running_loop()
                await loop.run_in_executor(executor, self._handler, message.copy())
        except (Exception, asyncio.CancelledError) as raised:
            error = raised
            if isinstance(raised, Exception):
                _log.info("%r failed", message, exc_info=raised)
        if not message.is_lost:
            await self._settle(message, error)

    async def _settle(self, message: Message, error: Optional[BaseException]) -> None:
        try:
            await message.settle(error)
        except LeaseLost as lost:
            _log.warning("%s", lost)
        except QueuedError as failure:
            _log.warning("%r was not settled: %s", message, failure)


class WorkerFunction:
    """A handler with what ``worker`` was told; calling it calls the handler."""

    def __init__(self, handler: Handler, queues: Union[str, Sequence[str]], options: Dict[str, Any]) -> None:
        self.handler = handler
        self.queues = queues
        self.options = options

    def __call__(self, message: Any) -> Any:
        return self.handler(message)

    def run(
        self, servers: Union[str, Sequence[str]] = SERVERS, *, timeout: float = 5.0, tls: Optional[Tls] = None
    ) -> None:
        """Works until SIGTERM or SIGINT, and then finishes what it has begun."""
        asyncio.run(run_workers(servers, self, timeout=timeout, tls=tls))


def worker(queues: Union[str, Sequence[str]], **options: Any) -> Callable[[Handler], WorkerFunction]:
    """Makes a worker of a handler: ``@queued.worker("mail", parallel=8)``. Options are those of ``Worker``."""

    def decorate(handler: Handler) -> WorkerFunction:
        return WorkerFunction(handler, queues, options)

    return decorate


async def run_workers(
    servers: Union[str, Sequence[str]], *functions: WorkerFunction, timeout: float = 5.0, tls: Optional[Tls] = None
) -> None:
    """Runs workers until SIGTERM or SIGINT; a second signal gives back what is being worked on."""
    loop = asyncio.get_running_loop()
    async with Client(servers, timeout=timeout, tls=tls) as client:
        workers = [Worker(client, function.queues, function.handler, **function.options) for function in functions]
        running = asyncio.ensure_future(asyncio.gather(*(worker.run() for worker in workers)))
        seen = 0

        def on_signal() -> None:
            nonlocal seen
            seen += 1
            for worker in workers:
                worker.stop()
                if seen > 1:
                    worker.hurry()

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, on_signal)
        try:
            await running
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)
