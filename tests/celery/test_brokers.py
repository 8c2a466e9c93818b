"""The brokers that the tests start are of this machine alone."""

from __future__ import annotations

#: 127.0.0.1 and ::1, as /proc has them.
LOOPBACK = {"0100007F", "00000000000000000000000001000000"}


def test_rabbitmq_listens_on_loopback(rabbitmq):
    assert rabbitmq.listeners() <= LOOPBACK
    assert "0100007F" in rabbitmq.listeners()


def test_redis_listens_on_loopback(redis_server):
    assert redis_server.listeners() == {"0100007F"}
