import io
import json
import socket
import struct

import numpy as np
import pytest

from gridpose.core import JOINT_NAMES, InputError, Person
from gridpose.pipeline.live.messages import (
    Datagrams,
    JsonLines,
    as_json,
    json_packets,
    osc_packets,
)


def person(number=3, seed=0):
    generator = np.random.default_rng(seed)

    def some(*shape):
        return generator.uniform(0, 1, shape).astype(np.float32)

    return Person(number, some(4), 500 * some(17, 2), some(17), some(17, 3), some(17, 3))


@pytest.fixture
def receiver():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.bind(("127.0.0.1", 0))
        one.settimeout(20)
        yield one


def text(data, start):
    end = data.index(b"\0", start)
    return data[start:end].decode(), (end // 4 + 1) * 4


def osc(bundle):
    """(address, numbers) of the messages in a bundle, read as OSC 1.0 says."""
    assert len(bundle) % 4 == 0
    name, at = text(bundle, 0)
    assert name == "#bundle"
    assert struct.unpack_from(">Q", bundle, at) == (1,)
    at += 8
    while at < len(bundle):
        (length,) = struct.unpack_from(">i", bundle, at)
        message, at = bundle[at + 4 : at + 4 + length], at + 4 + length
        address, place = text(message, 0)
        kinds, place = text(message, place)
        assert kinds == ",fff"
        assert len(message) == place + 12
        yield address, struct.unpack_from(">3f", message, place)


def test_a_line_is_json_with_everybody():
    one = person()
    stream = io.StringIO()
    JsonLines(stream).send(1.25, [one])
    JsonLines(stream).send(1.5, [])
    first, second = map(json.loads, stream.getvalue().splitlines())
    assert first["time"] == 1.25
    assert second == {"time": 1.5, "people": []}
    (told,) = first["people"]
    assert told["id"] == 3
    np.testing.assert_allclose(told["keypoints"], one.keypoints_2d, atol=0.051)
    np.testing.assert_allclose(told["confidence"], one.confidence, atol=0.00051)
    np.testing.assert_allclose(told["pose_world"], one.pose_world, atol=0.000051)


def test_what_is_no_number_is_null():
    one = person()
    one.keypoints_2d[4] = np.nan
    told = json.loads(as_json(0.0, [one]))["people"][0]
    assert told["keypoints"][4] == [None, None]
    np.testing.assert_allclose(told["keypoints"][5], one.keypoints_2d[5], atol=0.051)


def test_datagrams_have_the_same_lines(receiver):
    sender = Datagrams(receiver.getsockname(), json_packets)
    sender.send(2.0, [person(), person(4, 1)])
    assert receiver.recv(65535).decode() == as_json(2.0, [person(), person(4, 1)])
    sender.close()


def test_osc_has_a_message_for_each_joint(receiver):
    sender = Datagrams(receiver.getsockname(), osc_packets)
    people = [person(), person(12, 1)]
    sender.send(2.0, people)
    for one in people:
        messages = dict(osc(receiver.recv(65535)))
        assert list(messages) == [f"/gridpose/person/{one.track_id}/{name}" for name in JOINT_NAMES]
        np.testing.assert_array_equal(list(messages.values()), one.pose_world)
    sender.close()


def test_nobody_need_be_listening():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.bind(("127.0.0.1", 0))
        nobody = one.getsockname()
    sender = Datagrams(nobody, osc_packets)
    for _ in range(5):
        sender.send(0.0, [person()])
    sender.close()


def test_a_host_that_is_not_there():
    with pytest.raises(InputError, match="no such host"):
        Datagrams(("no-such-host.invalid", 9000), json_packets)
