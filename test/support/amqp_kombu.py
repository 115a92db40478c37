"""Rounds with kombu: declared entities, retries, mixins that consume, a broker that is killed. Prints ok."""
import socket
import sys
import threading
import time

from kombu import Connection, Consumer, Exchange, Producer, Queue
from kombu.mixins import ConsumerMixin
from kombu.pools import producers

URL = f"amqp://guest:guest@127.0.0.1:{sys.argv[1]}//"
tasks = Exchange("kombu.tasks", type="topic", durable=True)
queue = Queue("kombu.video", exchange=tasks, routing_key="video.#", durable=True)


class Worker(ConsumerMixin):
    def __init__(self, connection):
        self.connection = connection
        self.got = []

    def get_consumers(self, Consumer, channel):
        return [Consumer(queues=[queue], accept=["json"], callbacks=[self.on_task], prefetch_count=2)]

    def on_task(self, body, message):
        self.got.append(body["number"])
        if body["number"] == 7 and not message.delivery_info["redelivered"]:
            self.got.pop()
            message.requeue()
            return
        message.ack()
        if len(self.got) == 20:
            self.should_stop = True


def rounds():
    with Connection(URL) as connection:
        assert connection.as_uri().startswith("amqp://")
        worker = Worker(connection.clone())
        thread = threading.Thread(target=worker.run, daemon=True)
        thread.start()
        with producers[connection].acquire(block=True) as producer:
            for number in range(20):
                producer.publish(
                    {"number": number},
                    exchange=tasks,
                    routing_key="video.encode",
                    declare=[queue],
                    serializer="json",
                    compression="zlib",
                    retry=True,
                    mandatory=True,
                )
        thread.join(30)
        assert not thread.is_alive() and sorted(worker.got) == list(range(20)), worker.got

        with connection.channel() as channel:
            simple = connection.SimpleQueue("kombu.simple", channel=channel)
            simple.put({"text": "é"})
            message = simple.get(block=True, timeout=10)
            assert message.payload == {"text": "é"}
            message.ack()
            assert simple.qsize() == 0
            simple.close()

        with connection.channel() as channel:
            temporary = Queue("", exchange=tasks, routing_key="audio", exclusive=True, channel=channel)
            temporary.declare()
            got = []
            consumer = Consumer(channel, [temporary], auto_declare=False, no_ack=True)
            consumer.register_callback(lambda body, _message: got.append(body))
            with consumer:
                Producer(channel).publish("sound", exchange=tasks, routing_key="audio")
                while not got:
                    connection.drain_events(timeout=10)
            assert got == ["sound"]
            try:
                connection.drain_events(timeout=0.05)
                raise AssertionError("something else came")
            except socket.timeout:
                pass


class Steady(ConsumerMixin):
    """Consumes for as long as it is asked to, whatever becomes of the broker."""

    def __init__(self, connection):
        self.connection = connection
        self.got = set()
        self.connections = 0

    def get_consumers(self, Consumer, channel):
        return [Consumer(queues=[steady], accept=["json"], callbacks=[self.on_task])]

    def on_task(self, body, message):
        self.got.add(body["number"])
        message.ack()

    def on_connection_revived(self):
        self.connections += 1


steady = Queue("kombu.steady", exchange=tasks, routing_key="steady", durable=True)
# The broker is away for a moment: asked for again soon.
POLICY = {"interval_start": 0.1, "interval_step": 0.1, "interval_max": 0.5, "max_retries": 200}


def reconnects():
    # What is not confirmed may be gone after a kill.
    with Connection(URL, heartbeat=10, transport_options={"confirm_publish": True}) as connection:
        worker = Steady(connection.clone())
        thread = threading.Thread(target=worker.run, daemon=True)
        thread.start()
        simple = connection.SimpleQueue("kombu.lasting")
        simple.put({"text": "before"})
        producer = connection.Producer()

        def publish(numbers):
            for number in numbers:
                producer.publish(
                    {"number": number},
                    exchange=tasks,
                    routing_key="steady",
                    declare=[steady],
                    retry=True,
                    retry_policy=POLICY,
                )

        publish(range(10))
        until(lambda: worker.got == set(range(10)))
        print("kill it", flush=True)
        until(lambda: worker.connections == 2)
        publish(range(10, 20))
        until(lambda: worker.got == set(range(20)))
        worker.should_stop = True
        with connection.clone() as again:
            lasting = again.SimpleQueue("kombu.lasting")
            message = lasting.get(block=True, timeout=10)
            assert message.payload == {"text": "before"}
            message.ack()
            lasting.close()


def until(what, seconds=30):
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.02)


globals()[sys.argv[2]]()
print("ok")
