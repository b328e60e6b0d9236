"""Starts a program as several workers on this machine."""

import contextlib
import json
import os
import socket
import subprocess
import sys


def worker_environments(count):
    """What tells each worker of the others, on TensorFlow and on JAX."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for free in sockets:
            free.bind(("localhost", 0))
        addresses = [f"localhost:{free.getsockname()[1]}" for free in sockets]
    return [
        {
            **os.environ,
            "TF_CONFIG": json.dumps(
                {
                    "cluster": {"worker": addresses},
                    "task": {"type": "worker", "index": index},
                }
            ),
            "KERAS_DISTRIBUTION_JOB_ADDRESSES": ",".join(addresses),
            "KERAS_DISTRIBUTION_NUM_PROCESSES": str(count),
            "KERAS_DISTRIBUTION_PROCESS_ID": str(index),
        }
        for index in range(count)
    ]


def start(arguments, environment):
    """Starts `python arguments` without waiting for it."""
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(processes, timeout=300):
    """Waits for all of them; raises with what a failed one printed.

    A worker whose peer has failed may wait for it forever: none outlives this
    call.
    """
    try:
        outputs = [
            process.communicate(timeout=timeout)[0] for process in processes
        ]
    finally:
        for process in processes:
            process.kill()
    for process, output in zip(processes, outputs, strict=True):
        assert process.returncode == 0, output[-4000:]
    return outputs
