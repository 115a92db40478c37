"""An application of Celery: its tasks, and the steps that a test asks for. Prints ok."""
import os
import sys
import time

from celery import Celery, chain, group

FOLDER = os.environ["CELERY_FOLDER"]
app = Celery("amqp_celery", broker=os.environ["CELERY_BROKER"], backend=os.environ["CELERY_BACKEND"])
app.conf.update(
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=1,
    broker_connection_max_retries=100,
    worker_enable_remote_control=True,
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
    soon = mark.delay("later", "soon")
    assert soon.get(timeout=30) - sent < late.get(timeout=30) - sent
    assert late.get(timeout=30) - sent >= 1.4
    assert stumble.delay(2).get(timeout=30) == 2


def controls():
    """Remote control: a fanout to all workers, and their answers."""
    answers = app.control.ping(timeout=10, limit=1)
    assert len(answers) >= 1 and list(answers[0].values())[0] == {"ok": "pong"}, answers
    assert app.control.inspect(timeout=10, limit=1).active_queues() is not None


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
