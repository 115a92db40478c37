"""A round with pika: confirms, returns, consuming with acks, errors. Prints ok."""
import sys

import pika
import pika.exceptions

port = int(sys.argv[1])
parameters = pika.ConnectionParameters(host="127.0.0.1", port=port, heartbeat=2)

connection = pika.BlockingConnection(parameters)
channel = connection.channel()
channel.confirm_delivery()
channel.exchange_declare("events", exchange_type="topic", durable=True)
channel.queue_declare("q", durable=True, arguments={"x-max-length": 1000})
channel.queue_bind("q", "events", "a.#")
for i in range(50):
    properties = pika.BasicProperties(delivery_mode=2, headers={"i": i, "b": True, "n": None})
    channel.basic_publish("events", "a.b", str(i).encode(), properties, mandatory=True)
try:
    channel.basic_publish("events", "nowhere", b"x", mandatory=True)
    raise AssertionError("an unroutable message was not returned")
except pika.exceptions.UnroutableError as error:
    assert error.messages[0].method.reply_code == 312

channel.basic_qos(prefetch_count=10)
expected = 0
for method, properties, body in channel.consume("q", inactivity_timeout=5):
    assert method is not None, "nothing came"
    assert int(body) == expected, (body, expected)
    assert properties.headers == {"i": expected, "b": True, "n": None}
    channel.basic_ack(method.delivery_tag)
    expected += 1
    if expected == 50:
        break
channel.cancel()
assert channel.queue_declare("q", passive=True).method.message_count == 0

asking = connection.channel()
answers = []
asking.basic_consume(
    "amq.rabbitmq.reply-to",
    lambda _channel, _method, properties, body: answers.append((properties.correlation_id, body)),
    auto_ack=True,
)
properties = pika.BasicProperties(reply_to="amq.rabbitmq.reply-to", correlation_id="7")
asking.basic_publish("", "q", b"ask", properties)
while True:
    method, properties, body = channel.basic_get("q", auto_ack=True)
    if method is not None:
        break
assert properties.reply_to.startswith("amq.rabbitmq.reply-to."), properties.reply_to
assert channel.queue_declare(properties.reply_to, passive=True).method.consumer_count == 1
answer = pika.BasicProperties(correlation_id=properties.correlation_id)
channel.basic_publish("", properties.reply_to, b"answer", answer, mandatory=True)
while not answers:
    connection.process_data_events(time_limit=1)
assert answers == [("7", b"answer")], answers
asking.close()
try:
    channel.basic_publish("", properties.reply_to, b"late", answer, mandatory=True)
    raise AssertionError("an answer that nobody awaits was not returned")
except pika.exceptions.UnroutableError as error:
    assert error.messages[0].method.reply_code == 312

try:
    connection.channel().queue_declare("missing", passive=True)
    raise AssertionError("a missing queue was found")
except pika.exceptions.ChannelClosedByBroker as error:
    assert error.reply_code == 404, error
    assert error.reply_text == "NOT_FOUND - no queue 'missing' in vhost '/'", error

connection.close()

try:
    wrong = pika.PlainCredentials("guest", "wrong")
    pika.BlockingConnection(pika.ConnectionParameters(host="127.0.0.1", port=port, credentials=wrong))
    raise AssertionError("a wrong password was taken")
except pika.exceptions.ProbableAuthenticationError:
    pass
print("ok")
