"""Two processes of a training, made from this one: what takes long elsewhere, importing, is done."""

import multiprocessing
import os
import socket
import traceback

import torch

#: A process that has used CUDA cannot be forked.
CONTEXT = multiprocessing.get_context("spawn" if torch.cuda.is_available() else "fork")


def free_port():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


def exit_codes(work, *arguments, limit=300):
    """Call ``work(rank, *arguments)`` in two processes that find each other; their exit codes, -9 for one killed."""
    port = free_port()
    processes = [CONTEXT.Process(target=_one, args=(rank, port, work, arguments)) for rank in range(2)]
    for process in processes:
        process.start()
    try:
        for process in processes:
            process.join(limit)
        return [process.exitcode for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.join()


def _one(rank, port, work, arguments):
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "NODE_RANK": "0"}
    os.environ.update(address | {"LOCAL_RANK": str(rank), "OMP_NUM_THREADS": "1"})
    torch.set_num_threads(1)
    code = 1
    try:
        work(rank, *arguments)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)  # nothing of the tests' own process is to be cleaned up here
