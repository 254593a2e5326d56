"""Run `referee` commands in forks of a process that has imported everything.

A server process imports what commands need and then forks for each of them: the command has a
process, an environment, streams and an exit code of its own, as from a shell, for a tenth of the
processor time. What it saves is the start of the interpreter alone; tests of the start itself,
and workers, start for real.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import pkgutil
import signal
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import IO, NoReturn

from subprocesses import python_command
from testing import ROOT

#: Imported before the first command, besides each command's own module.
_PACKAGES = ("commands", "db", "dispatch", "papers", "worker")
_MODULES = (
    *("alembic.command", "celery.app.amqp", "kombu.transport.redis", "psycopg", "redis.asyncio"),
    *("rich.console", "rich.table", "rich.live", "rich.progress", "sqlalchemy.dialects.postgresql"),
    *("scipy.optimize", "scipy.stats", "sqlalchemy.dialects.sqlite"),
    *("trainer.data.merge_structured", "trainer.data.dataset_build", "yaml"),
)
#: Commands that import torch, most of them transformers too: 8 to 13 s of processor time each. They
#: are forked from a second server, so that the others still show whether they need torch.
TORCH_COMMANDS = ("eval", "judge", "train")
_TORCH_PACKAGES = ("models.adapters", "models.weights", "trainer.qlora")
_TORCH_MODULES = (
    *("bitsandbytes", "peft", "safetensors.torch", "transformers.models.bert.modeling_bert"),
    "transformers.models.llama.modeling_llama",
)
#: Bytes of one request: arguments and environment.
_LONGEST = 1 << 17


class RunningCommand:
    """A command in a process of its own; has what subprocess.Popen has, as far as tests ask."""

    def __init__(self, pid: int, ended: socket.socket) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._ended = ended

    def poll(self) -> int | None:
        """Its exit code, negative for a signal, or None while it runs."""
        try:
            return self.wait(timeout=0)
        except subprocess.TimeoutExpired:
            return None

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end and give its exit code; raises subprocess.TimeoutExpired."""
        if self.returncode is None:
            self._ended.settimeout(timeout)
            try:
                self.returncode = int(self._ended.recv(16))
            except (TimeoutError, BlockingIOError):
                raise subprocess.TimeoutExpired("referee", timeout or 0) from None
            self._ended.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send it a signal, if it still runs."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)


class CommandServer:
    """The process that forks for commands; ends with the process that made it."""

    def __init__(self, *, torch: bool) -> None:
        """`torch` imports it and what TORCH_COMMANDS need besides."""
        self._requests, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                python_command("tests.command_server", str(theirs.fileno()), str(int(torch))),
                cwd=ROOT,
                env=os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # Ctrl-C is for whoever runs the tests
            )
        atexit.register(self._end)

    def start(
        self,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        streams: tuple[IO[bytes], IO[bytes], IO[bytes]],
    ) -> RunningCommand:
        """Start a command with its standard input, output and error; in a session of its own."""
        request = json.dumps([list(arguments), dict(environment)]).encode()
        assert len(request) <= _LONGEST, f"too long: {arguments}"
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            numbers = [theirs.fileno(), *(stream.fileno() for stream in streams)]
            socket.send_fds(self._requests, [request], numbers)
        pid = ours.recv(16)
        assert pid, "the command server is gone"
        return RunningCommand(int(pid), ours)

    def _end(self) -> None:
        self._requests.close()
        self._process.wait(timeout=10)


def command_server(command: str) -> CommandServer:
    """The server of this process for a command, started when it is first asked for."""
    return _server(command in TORCH_COMMANDS)


@lru_cache(maxsize=2)
def _server(torch: bool) -> CommandServer:
    return CommandServer(torch=torch)


def _serve(requests: socket.socket) -> None:
    """Fork for each request; returns in the command's process only, ready to run."""
    while True:
        request, descriptors, *_ = socket.recv_fds(requests, _LONGEST, 4)
        if not request:
            os._exit(0)
        if os.fork() == 0:
            requests.close()
            arguments, environment = json.loads(request)
            _wait_or_become(arguments, environment, descriptors)
            return
        for descriptor in descriptors:
            os.close(descriptor)
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def _wait_or_become(
    arguments: list[str], environment: dict[str, str], descriptors: list[int]
) -> None:
    reply = socket.socket(fileno=descriptors[0])
    if pid := os.fork():
        _report(pid, reply, descriptors[1:])
    reply.close()
    os.setsid()
    for number, descriptor in enumerate(descriptors[1:]):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["referee", *arguments]


def _report(pid: int, reply: socket.socket, descriptors: list[int]) -> NoReturn:
    """Tell of the command's beginning and end."""
    for descriptor in descriptors:
        os.close(descriptor)
    reply.send(str(pid).encode())
    _, status = os.waitpid(pid, 0)
    try:
        reply.send(str(os.waitstatus_to_exitcode(status)).encode())
    finally:
        os._exit(0)


def _import_everything() -> None:
    from cli import COMMANDS

    modules = {module for module, _ in COMMANDS.values()} | set(_MODULES)
    for name in _PACKAGES:
        package = importlib.import_module(name)
        modules |= {f"{name}.{found.name}" for found in pkgutil.iter_modules(package.__path__)}
    for module in sorted(modules):
        importlib.import_module(module)
    assert "torch" not in sys.modules, "a command that needs no torch would not show it"


def _import_torch() -> None:
    modules = set(_TORCH_MODULES)
    for name in _TORCH_PACKAGES:
        package = importlib.import_module(name)
        modules |= {f"{name}.{found.name}" for found in pkgutil.iter_modules(package.__path__)}
    for module in sorted(modules):
        importlib.import_module(module)


def main() -> None:
    """Serve on the socket whose number is the first argument; 1 as the second imports torch."""
    import cli

    _import_everything()
    if sys.argv[2] == "1":
        _import_torch()
    # Nothing of it is looked at again, so the processes go on sharing the memory.
    gc.collect()
    gc.freeze()
    _serve(socket.socket(fileno=int(sys.argv[1])))
    # As `python -P -m cli` would have it, for processes that a command starts in turn.
    sys.modules["__main__"] = cli
    try:
        cli.main()
    except SystemExit as end:
        _end(int(end.code or 0))
    except BaseException:
        traceback.print_exc()
    _end(1)


def _end(code: int) -> NoReturn:
    """End as an interpreter does, but do not take apart what the server has imported: that takes
    longer than most commands do."""
    threading._shutdown()  # type: ignore[attr-defined]  # private, so not in typeshed; multiprocessing waits so too
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
