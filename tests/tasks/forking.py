"""A worker script whose tasks fork, start programs, and leave processes behind."""

import asyncio
import multiprocessing
import os
import subprocess
import sys
import time

from crew.worker import Task, context, run

PREFIX = os.environ.get("CREW_TEST_PREFIX", "")
fork = multiprocessing.get_context("fork")


def task(name):
    """As Task; registers nothing if the test wants coroutines only, so that their loop runs in the main thread."""
    return (lambda function: function) if os.environ.get("ONLY_ASYNC") else Task(PREFIX + name)


def signals_of_a_program():
    """The signals that a started program blocks and ignores, as hexadecimal masks."""
    status = subprocess.run(["cat", "/proc/self/status"], capture_output=True, text=True, check=True).stdout
    return {name: value.strip() for name, _, value in (line.partition(":") for line in status.splitlines())}


def signals(_):
    status = signals_of_a_program()
    return [status["SigBlk"], status["SigIgn"]]


async def async_signals(_):
    await asyncio.sleep(0)
    return signals(_)


Task(PREFIX + "async signals")(async_signals)
task("signals")(signals)


@task("signals of a child")
def signals_of_a_child(_):
    ours, theirs = fork.Pipe()
    child = fork.Process(target=lambda: theirs.send(signals(None)))
    child.start()
    child.join()
    return ours.recv()


@task("terminate")
def terminate(times):
    """Exit codes of child processes that are terminated at once."""
    codes = []
    for _ in range(times):
        child = fork.Process(target=time.sleep, args=(60,))
        child.start()
        child.terminate()
        child.join(5)
        codes.append(child.exitcode)
        child.kill()
    return codes


@task("pool")
def pool(numbers):
    with fork.Pool(2) as workers:
        return workers.map(abs, numbers)


@task("leave a daemon")
def leave_a_daemon(seconds):
    """In the first execution: leave a daemon and sleep. In the next one, in another process: return at once."""
    if context.attempt > 1:
        return context.attempt
    if os.fork() == 0:
        os.setsid()
        print("DAEMON", os.getpid(), "OF", os.getppid(), flush=True)
        time.sleep(60)
        os._exit(0)
    time.sleep(seconds)
    return None


@task("return in a child")
def return_in_a_child(how):
    """The exit status of a child in which this function returns, exits or raises."""
    pid = os.fork()
    if pid == 0:
        if how == "exit":
            sys.exit(3)
        if how == "raise":
            raise ValueError("raised in the child")
        return None
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@task("call in a child")
def call_in_a_child(name):
    ours, theirs = fork.Pipe()

    def call():
        try:
            theirs.send(context.call(name).result())
        except Exception as error:
            theirs.send(f"{type(error).__name__}: {error}")

    child = fork.Process(target=call)
    child.start()
    result = ours.recv()
    child.join()
    return result


if __name__ == "__main__":
    run()
