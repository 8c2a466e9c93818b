"""Fixtures: Celery's own parts as a worker has them, and a check that nothing is left over."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from typing import Any

import celery
import pytest
from brokers import rabbitmq, redis_server, redis_url, servers
from kombu.asynchronous import Hub, set_event_loop
from kombu.asynchronous.semaphore import LaxBoundedSemaphore
from workers import PLACES, SMOKE, STOCK, thread_worker, worker

from fixtures import gate, signals_of_a_terminal
from helpers import descriptors, eventually, leftovers

if STOCK:
    from celery.concurrency.prefork import TaskPool
else:
    from prefork.celery import TaskPool

__all__ = [
    "gate",
    "rabbitmq",
    "redis_server",
    "redis_url",
    "signals_of_a_terminal",
    "thread_worker",
    "worker",
]


def pytest_addoption(parser: pytest.Parser) -> None:
    """For the matrix."""
    parser.addoption(
        "--place",
        choices=PLACES,
        help="real workers only there, all tests; without it: all over redis, a few elsewhere",
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test with a worker is one in each place that makes sense for it."""
    if "place" not in metafunc.fixturenames:
        return
    only = metafunc.definition.get_closest_marker("only")
    sensible = only.args if only else PLACES
    asked = metafunc.config.getoption("place")
    smoke = metafunc.definition.get_closest_marker("smoke")
    wanted = (asked,) if asked else SMOKE if smoke else sensible[:1]
    places = [place for place in wanted if place in sensible]
    metafunc.parametrize("place", places or [pytest.param("nowhere", marks=pytest.mark.nowhere)])


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What makes no sense in a place is not a test there, and what needs none runs once."""
    asked = config.getoption("place")

    def belongs(item: pytest.Item) -> bool:
        if item.get_closest_marker("nowhere"):
            return False
        return asked in (None, "redis") or "place" in getattr(item, "fixturenames", ())

    config.hook.pytest_deselected(items=[item for item in items if not belongs(item)])
    items[:] = [item for item in items if belongs(item)]


@pytest.fixture(autouse=True)
def _nothing_is_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """No process outlives the test that made it, nor a descriptor, but for those of a client of
    real workers."""
    before, children = descriptors(), leftovers()
    yield
    gc.collect()
    eventually(lambda: not leftovers() - children - servers(), within=10)
    new = {fd: what for fd, what in descriptors().items() if before.get(fd) != what}
    assert new == {} or "redis_server" in request.fixturenames


@pytest.fixture(scope="session")
def app() -> celery.Celery:
    """An application without a broker."""
    found = celery.Celery("tests", broker="memory://", backend="cache+memory://")
    found.finalize()
    return found


@pytest.fixture
def hub() -> Iterator[Hub]:
    """The current event loop."""
    found = Hub()
    set_event_loop(found)
    yield found
    found.close()
    set_event_loop(None)


class Driven:
    """A TaskPool in a hub, with the semaphore that a worker has, and a list of all that is said."""

    def __init__(self, app: celery.Celery, hub: Hub, limit: int, **options: Any) -> None:
        self.hub = hub
        self.semaphore = LaxBoundedSemaphore(limit)
        self.said: list[tuple[Any, ...]] = []
        self.pool = TaskPool(
            limit,
            app=app,
            initargs=(app, "host"),
            threads=False,
            putlocks=False,
            semaphore=self.semaphore,
            forking_enable=True,
            **options,
        )
        self.pool.start()
        self.pool.register_with_event_loop(hub)
        self._loop = hub.create_loop()

    def submit(self, target: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """As a Request does it: each callback adds a line to `said`."""
        callbacks = {
            "accept_callback": lambda pid, at: self.said.append(("accept", pid)),
            "callback": lambda value: self.said.append(("success", value)),
            "error_callback": lambda info: self.said.append(("error", info)),
            "timeout_callback": lambda soft, timeout: self.said.append(("limit", soft, timeout)),
        }
        return self.pool.apply_async(target, args, **(callbacks | options))

    def until(self, condition: Callable[[], Any]) -> Any:
        """Turn the hub until that holds."""
        return eventually(condition, self)

    def poll(self, timeout: float) -> None:
        """One turn of the hub, which waits so many seconds at most. Without a timer it would be
        one, for what it is asked to do soon by its own thread does not wake it. They may not
        pile up: where ten timers are due in one turn, kombu waits for a second, too."""
        wake = self.hub.timer.call_after(timeout or 0.001, lambda: None)
        next(self._loop)
        wake.cancel()

    def names(self) -> list[str]:
        """What was said, without the details."""
        return [line[0] for line in self.said]


@pytest.fixture
def driven(app: celery.Celery, hub: Hub) -> Iterator[Callable[..., Driven]]:
    """Makes pools in hub mode."""
    made: list[Driven] = []

    def make(limit: int = 1, **options: Any) -> Driven:
        made.append(Driven(app, hub, limit, **options))
        return made[-1]

    yield make
    for one in made:
        one.pool.terminate()
    made.clear()
