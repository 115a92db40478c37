"""An application of Celery: its tasks, and the steps that a test asks for. Prints ok."""
import datetime
import os
import sys
import threading
import time

from celery import Celery, chain, chord, group
from kombu import Queue

FOLDER = os.environ["CELERY_FOLDER"]
app = Celery("amqp_celery", broker=os.environ["CELERY_BROKER"], backend=os.environ["CELERY_BACKEND"])
app.conf.update(
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=1,
    broker_connection_max_retries=100,
    worker_enable_remote_control=True,
    task_queues=[Queue("celery"), Queue("urgent", queue_arguments={"x-max-priority": 10})],
    task_default_queue="celery",
)


def note(name, text):
    with open(os.path.join(FOLDER, name), "a", encoding="utf-8") as file:
        file.write(f"{text}\n")


def noted(name):
    try:
        with open(os.path.join(FOLDER, name), encoding="utf-8") as file:
            return file.read().split()
    except FileNotFoundError:
        return []


def until(what, seconds=30):
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.02)


@app.task
def add(x, y):
    return x + y


@app.task(bind=True, max_retries=5)
def stumble(self, times):
    if self.request.retries < times:
        raise self.retry(countdown=0.2)
    return self.request.retries


@app.task
def mark(name, text, seconds=0.0):
    note(f"{name}.begun", text)
    time.sleep(seconds)
    note(name, text)
    return time.time()


@app.task
def total(numbers):
    return sum(numbers)


def calls():
    """A call, a hundred at once, one after the other."""
    assert add.delay(2, 3).get(timeout=30) == 5
    many = group(add.s(i, i) for i in range(100))()
    assert many.get(timeout=30) == [2 * i for i in range(100)]
    assert chain(add.s(1, 2), add.s(10), add.s(100))().get(timeout=30) == 113


def later():
    """A countdown is kept without holding what comes behind it, and a retry comes again."""
    sent = time.time()
    late = mark.apply_async(("later", "late"), countdown=1.5)
    eta = datetime.datetime.fromtimestamp(sent + 1.2, datetime.timezone.utc)
    dated = mark.apply_async(("later", "dated"), eta=eta)
    stumbled = stumble.delay(2)
    soon = mark.delay("later", "soon")
    assert soon.get(timeout=30) < late.get(timeout=30)
    assert late.get(timeout=30) - sent >= 1.4
    assert dated.get(timeout=30) >= eta.timestamp()
    assert stumbled.get(timeout=30) == 2


def controls():
    """Remote control: a fanout to all workers, and their answers."""
    answers = app.control.ping(timeout=10, limit=1)
    assert len(answers) >= 1 and list(answers[0].values())[0] == {"ok": "pong"}, answers
    assert app.control.inspect(timeout=10, limit=1).active_queues() is not None


def events():
    """What the workers say of their tasks, to whoever listens."""
    told = []
    with app.connection_for_read() as connection:
        receiver = app.events.Receiver(connection, handlers={"*": told.append})
        listening = threading.Thread(target=receiver.capture, kwargs={"limit": None}, daemon=True)
        listening.start()

        def is_told():
            # What is sent before the listener's queue is there is told to nobody.
            sent = add.delay(1, 1)
            assert sent.get(timeout=30) == 2
            types = {event["type"] for event in told if event.get("uuid")}
            return {"task-received", "task-started", "task-succeeded"} <= types

        until(is_told)
        receiver.should_stop = True


def priorities():
    """The worker takes the urgent ones first."""
    for priority in (1, 5, 9, 0):
        mark.apply_async(("urgent", str(priority)), queue="urgent", priority=priority)
    app.control.add_consumer("urgent", reply=True, timeout=10, limit=1)
    until(lambda: len(noted("urgent")) == 4)
    assert noted("urgent") == ["9", "5", "1", "0"], noted("urgent")


def chords():
    """A body behind all of its header."""
    header = [add.s(i, i) for i in range(20)]
    assert chord(header)(total.s(), interval=0.2).get(timeout=30) == 380


def slow():
    """One task that a worker holds until it is killed."""
    mark.delay("slow", "one", 1.0)
    until(lambda: noted("slow.begun"))


def slow_done():
    """Somebody else did it."""
    until(lambda: len(noted("slow.begun")) >= 2 and noted("slow"))


def batch():
    """Many tasks: the broker goes away before they are done."""
    for i in range(40):
        mark.delay("batch", str(i), 0.02)
    until(lambda: len(noted("batch")) >= 5)


def batch_done():
    """Every one of them was done."""
    until(lambda: set(noted("batch")) == {str(i) for i in range(40)})


if __name__ == "__main__":
    globals()[sys.argv[1]]()
    print("ok")
