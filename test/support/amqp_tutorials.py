"""The patterns of RabbitMQ's tutorials with pika, each a function: the port, then their names. Prints their names."""
import sys
import threading
import uuid

import pika

PORT = int(sys.argv[1])
PARAMETERS = pika.ConnectionParameters(host="127.0.0.1", port=PORT)


def connect():
    return pika.BlockingConnection(PARAMETERS)


def declared(channel, queue="", **how):
    return channel.queue_declare(queue=queue, **how).method.queue


def consumer(prepare, wanted):
    """A program that consumes in a thread of its own until it has `wanted` bodies; ready when this returns."""
    ready = threading.Event()
    got = []

    def work():
        connection = connect()
        channel = connection.channel()

        def on_message(ch, method, _properties, body):
            got.append((method.routing_key, body.decode()))
            if not auto_ack:
                ch.basic_ack(delivery_tag=method.delivery_tag)
            if len(got) == wanted:
                ch.stop_consuming()

        queue, auto_ack = prepare(channel)
        channel.basic_consume(queue=queue, on_message_callback=on_message, auto_ack=auto_ack)
        ready.set()
        channel.start_consuming()
        connection.close()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    assert ready.wait(20), "the consumer did not begin"

    def finish():
        thread.join(20)
        assert not thread.is_alive(), f"only {got} came"
        return got

    return finish


def hello():
    """1: one producer, one consumer."""
    finish = consumer(lambda channel: (declared(channel, "hello"), True), 1)
    connection = connect()
    channel = connection.channel()
    channel.queue_declare(queue="hello")
    channel.basic_publish(exchange="", routing_key="hello", body="Hello World!")
    connection.close()
    assert finish() == [("hello", "Hello World!")]


def work_queues():
    """2: a durable queue, two workers, one task at a time each, acknowledged when it is done."""

    def prepare(channel):
        declared(channel, "task_queue", durable=True)
        channel.basic_qos(prefetch_count=1)
        return "task_queue", False

    workers = [consumer(prepare, 5), consumer(prepare, 5)]
    connection = connect()
    channel = connection.channel()
    channel.queue_declare(queue="task_queue", durable=True)
    for i in range(10):
        channel.basic_publish(
            exchange="",
            routing_key="task_queue",
            body=f"task {i}",
            properties=pika.BasicProperties(delivery_mode=pika.spec.PERSISTENT_DELIVERY_MODE),
        )
    connection.close()
    done = sorted(body for finish in workers for _key, body in finish())
    assert done == [f"task {i}" for i in range(10)], done


def publish_subscribe():
    """3: a fanout exchange, and a queue of its own for each subscriber."""

    def prepare(channel):
        channel.exchange_declare(exchange="logs", exchange_type="fanout")
        queue = declared(channel, exclusive=True)
        channel.queue_bind(exchange="logs", queue=queue)
        return queue, True

    subscribers = [consumer(prepare, 2), consumer(prepare, 2)]
    connection = connect()
    channel = connection.channel()
    channel.exchange_declare(exchange="logs", exchange_type="fanout")
    for text in ("info: one", "info: two"):
        channel.basic_publish(exchange="logs", routing_key="", body=text)
    connection.close()
    for finish in subscribers:
        assert [body for _key, body in finish()] == ["info: one", "info: two"]


def routing():
    """4: a direct exchange, bound by severity."""

    def prepare(channel):
        channel.exchange_declare(exchange="direct_logs", exchange_type="direct")
        queue = declared(channel, exclusive=True)
        for severity in ("warning", "error"):
            channel.queue_bind(exchange="direct_logs", queue=queue, routing_key=severity)
        return queue, True

    finish = consumer(prepare, 2)
    connection = connect()
    channel = connection.channel()
    for severity in ("info", "warning", "info", "error"):
        channel.basic_publish(exchange="direct_logs", routing_key=severity, body=severity)
    connection.close()
    assert finish() == [("warning", "warning"), ("error", "error")]


def topics():
    """5: a topic exchange."""

    def prepare(channel):
        channel.exchange_declare(exchange="topic_logs", exchange_type="topic")
        queue = declared(channel, exclusive=True)
        for key in ("kern.*", "*.critical", "lazy.#"):
            channel.queue_bind(exchange="topic_logs", queue=queue, routing_key=key)
        return queue, True

    finish = consumer(prepare, 4)
    connection = connect()
    channel = connection.channel()
    for key in ("kern.critical", "cron.info", "cron.critical", "kern", "lazy", "lazy.a.b.c"):
        channel.basic_publish(exchange="topic_logs", routing_key=key, body=key)
    connection.close()
    wanted = ["kern.critical", "cron.critical", "lazy", "lazy.a.b.c"]
    assert [key for key, _body in finish()] == wanted


def rpc():
    """6: a queue of requests, and a queue for the answers of each client."""

    def serve():
        connection = connect()
        channel = connection.channel()
        channel.queue_declare(queue="rpc_queue")

        def on_request(ch, method, properties, body):
            number = int(body)
            ch.basic_publish(
                exchange="",
                routing_key=properties.reply_to,
                properties=pika.BasicProperties(correlation_id=properties.correlation_id),
                body=str(number * number),
            )
            ch.basic_ack(delivery_tag=method.delivery_tag)
            if number == 4:
                ch.stop_consuming()

        channel.basic_qos(prefetch_count=1)
        channel.basic_consume(queue="rpc_queue", on_message_callback=on_request)
        channel.start_consuming()
        connection.close()

    server = threading.Thread(target=serve, daemon=True)
    server.start()
    connection = connect()
    channel = connection.channel()
    channel.queue_declare(queue="rpc_queue")
    queue = declared(channel, exclusive=True)
    answers = {}
    channel.basic_consume(
        queue=queue,
        on_message_callback=lambda _c, _m, p, body: answers.update({p.correlation_id: int(body)}),
        auto_ack=True,
    )
    for number in (2, 3, 4):
        identifier = str(uuid.uuid4())
        properties = pika.BasicProperties(reply_to=queue, correlation_id=identifier)
        channel.basic_publish(
            exchange="", routing_key="rpc_queue", properties=properties, body=str(number)
        )
        while identifier not in answers:
            connection.process_data_events(time_limit=1)
        assert answers[identifier] == number * number
    server.join(20)
    assert not server.is_alive()
    connection.close()


def confirms_single():
    """7: each publish is waited for."""
    connection = connect()
    channel = connection.channel()
    queue = declared(channel, "confirmed.single", durable=True)
    channel.confirm_delivery()
    for i in range(20):
        channel.basic_publish("", queue, str(i).encode(), pika.BasicProperties(delivery_mode=2))
    connection.close()
    same_count(queue, 20)


def confirms_batch():
    """7: a hundred at once are waited for, then the next."""
    tags = publish_in_batches("confirmed.batch", batches=5, size=100)
    assert tags == [100, 200, 300, 400, 500], tags


def confirms_asynchronous():
    """7: told as they come."""
    publish_in_batches("confirmed.asynchronous", batches=1, size=500)


def publish_in_batches(queue, batches, size):
    """A batch begins when the one before it is confirmed whole; returns the last tag of each."""
    connection = connect()
    declared(connection.channel(), queue, durable=True)
    connection.close()
    open_tags = set()
    ends = []

    def on_open(opened):
        opened.channel(on_open_callback=on_channel)

    def on_channel(opened):
        def publish():
            first = size * len(ends) + 1
            for tag in range(first, first + size):
                open_tags.add(tag)
                opened.basic_publish("", queue, b"x", pika.BasicProperties(delivery_mode=2))

        def on_told(frame):
            assert isinstance(frame.method, pika.spec.Basic.Ack), frame
            tag = frame.method.delivery_tag
            settled = {each for each in open_tags if each <= tag} if frame.method.multiple else {tag}
            assert settled and settled <= open_tags, (tag, settled)
            open_tags.difference_update(settled)
            if open_tags:
                return
            ends.append(max(settled))
            if len(ends) == batches:
                asynchronous.close()
            else:
                publish()

        opened.confirm_delivery(on_told)
        publish()

    def on_close(closed, reason):
        failures.extend([] if reason.reply_code == 200 else [reason])
        closed.ioloop.stop()

    failures = []
    asynchronous = pika.SelectConnection(
        PARAMETERS, on_open_callback=on_open, on_close_callback=on_close
    )
    asynchronous.ioloop.start()
    assert not failures and not open_tags, (failures, open_tags)
    same_count(queue, batches * size)
    return ends


def same_count(queue, wanted):
    connection = connect()
    count = connection.channel().queue_declare(queue, passive=True).method.message_count
    assert count == wanted, count
    connection.close()


for name in sys.argv[2:]:
    globals()[name]()
    print(name)
