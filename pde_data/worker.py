"""Fresh interpreters that make shards, one after another, and end when their parent does."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, final

_START = """
import pickle, sys
sys.path[:] = pickle.load(sys.stdin.buffer)
from pde_data.worker import main
main()
"""


@final
class WorkerError(RuntimeError):
    """A worker process died, for want of memory or at another's hand; what is finished is kept."""


@final
class Worker:
    """A process that runs functions of importable modules, with one thread for numerical libraries.

    `multiprocessing` would import the user's script in every child, which runs it again unless it is
    guarded by `if __name__ == "__main__"`; and its children survive a parent that is killed.
    """

    def __init__(self) -> None:
        threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
        self._process = subprocess.Popen(
            [sys.executable, "-c", _START],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **threads},
        )
        self._send(sys.path)

    def _send(self, message: Any) -> None:
        assert self._process.stdin is not None
        pickle.dump(message, self._process.stdin)
        self._process.stdin.flush()

    def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call a function there; exceptions come back, and a process that died is a `WorkerError`."""
        assert self._process.stdout is not None
        try:
            self._send((function, arguments))
            failed, result = pickle.load(self._process.stdout)
        except (EOFError, BrokenPipeError) as error:
            code = self._process.wait()
            raise WorkerError(
                f"a worker process died with code {code}; run the same command again to resume"
            ) from error
        if failed:
            raise result
        return result

    def close(self) -> None:
        """End the process, also in the middle of its work."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            with suppress(OSError):
                pipe.close()  # type: ignore[union-attr]


@final
class Here:
    """The same interface in this process, with one thread while a function runs."""

    def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call a function."""
        import torch

        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            return function(*arguments)
        finally:
            torch.set_num_threads(threads)

    def close(self) -> None:
        """Nothing to end."""


def main() -> None:
    """Serve requests from standard input until it closes."""
    import torch

    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what an interrupt means
    # Nothing that a library prints may get between the answers.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    pending: list[Any] = []
    ready = threading.Semaphore(0)

    def listen() -> None:
        # Reading ahead notices at once that the parent is gone, also while a shard is being made.
        try:
            while True:
                pending.append(pickle.load(sys.stdin.buffer))
                ready.release()
        except EOFError:
            os._exit(1)

    threading.Thread(target=listen, daemon=True).start()
    while True:
        ready.acquire()
        function, arguments = pending.pop(0)
        try:
            answer = (False, function(*arguments))
        except Exception as error:
            answer = (True, error)
        pickle.dump(answer, answers)
        answers.flush()
