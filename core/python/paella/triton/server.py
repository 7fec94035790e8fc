"""One running server: its ports, whether it is healthy, and its orderly end."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from paella.hardware.settings import RunError
from paella.triton.install import server_binary
from paella.triton.releases import TritonError

HOST = "127.0.0.1"
START_S = 300.0  # a GPU's models and instances included
LOOK_S = 0.05
ANSWER_S = 2.0
EXIT_S = 5  # that the server gives requests in flight, once it is told to stop
GONE_S = 10.0  # until it is killed; less after a fault
HURRY_S = 3.0
PORT_TRIES = 5
TAKEN = "already in use"
SILENT = "it says nothing of why"


class Server:
    """Triton on loopback with free ports, or those asked for; a context manager.

    `folder` takes its log. It ends with this process, unless it is `detached`.
    """

    def __init__(
        self,
        version: str,
        repository: Path,
        folder: Path,
        *,
        backends: Path,
        environment: dict[str, str] | None = None,
        grpc_port: int | None = None,
        http_port: int | None = None,
        detached: bool = False,
    ):
        self.version, self.repository, self.log = version, repository, folder / "server.log"
        self._binary, self._backends = server_binary(version), backends
        self._environment = os.environ | (environment or {})
        self._wanted, self._detached = (grpc_port, http_port), detached
        self.grpc_port = self.http_port = 0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        return self._process.pid if self._process else 0

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self, limit_s: float = START_S) -> None:
        """Returns when every model is ready; TritonError with the server's own words if not."""
        for _ in range(PORT_TRIES):
            self.grpc_port, self.http_port = _ports(*self._wanted)
            try:
                self._launch()
                self._await_health(limit_s)
                return
            except BaseException as e:
                taken = isinstance(e, TritonError) and TAKEN in str(e)
                self.close()
                # Somebody took a port that had been free just before.
                if not taken or None not in self._wanted:
                    raise
        raise TritonError("no free port stays free until the server takes it")

    def _launch(self) -> None:
        command = [str(self._binary), *self._arguments()]
        if not self._detached:
            module = "paella.triton.launch"
            command = [sys.executable, "-m", module, str(os.getpid()), *command]
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                command,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # an interrupt from the terminal is for us
            )

    def _arguments(self) -> list[str]:
        return [
            f"--model-repository={self.repository}",
            f"--backend-directory={self._backends}",
            f"--grpc-address={HOST}",
            f"--http-address={HOST}",
            f"--grpc-port={self.grpc_port}",
            f"--http-port={self.http_port}",
            "--http-thread-count=1",
            "--allow-metrics=false",
            "--disable-auto-complete-config",
            "--strict-readiness=true",
            f"--exit-timeout-secs={EXIT_S}",
        ]

    def _await_health(self, limit_s: float) -> None:
        end = time.monotonic() + limit_s
        while not healthy(self.http_port):
            if self._process is None or self._process.poll() is not None:
                raise TritonError(f"Triton {self.version} does not start: {self._end()}")
            if time.monotonic() > end:
                raise TritonError(
                    f"Triton {self.version} is not ready within {limit_s:.0f} s: "
                    f"{last_words(self.log)}"
                )
            time.sleep(LOOK_S)
        # Another server may answer at a port that ours failed to take.
        if self._process is None or self._process.poll() is not None:
            raise TritonError(f"Triton {self.version} does not start: {self._end()}")

    def cpu_s(self) -> float:
        """CPU time that it has used so far, to 10 ms; 0 once it has ended."""
        with suppress(OSError):
            fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
            return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        return 0.0

    def check_alive(self) -> None:
        """RunError if the server has died."""
        if self._process is not None and self._process.poll() is not None:
            raise RunError(f"the Triton server died during the run: {self._end()}")

    def _end(self) -> str:
        """What is known of a server that has ended."""
        status = self._process.returncode if self._process else 0
        if status < 0:
            return f"signal {signal.Signals(-status).name}"
        return last_words(self.log)

    def died(self, within_s: float) -> bool:
        """Whether it has ended by itself, or does so soon."""
        with suppress(subprocess.TimeoutExpired):
            if self._process:
                self._process.wait(within_s)
        return self._process is not None and self._process.poll() is not None

    def close(self, patience_s: float = GONE_S) -> None:
        """Ends the server, by force if it does not listen; may be called again."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        try:
            process.wait(patience_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def disown(self) -> None:
        """Leaves the server running when this object goes, and its process."""
        if self._process:
            self._process.returncode = 0  # else its destructor complains
        self._process = None


def healthy(http_port: int) -> bool:
    """Whether the server is there and all its models are ready."""
    connection = http.client.HTTPConnection(HOST, http_port, timeout=ANSWER_S)
    try:
        connection.request("GET", "/v2/health/ready")
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def last_words(log: Path) -> str:
    """The last error that the server wrote, without time and place."""
    with suppress(OSError):
        lines = log.read_text(errors="replace").splitlines()
        errors = [line.split("] ", 1)[1] for line in lines if line[:1] == "E" and "] " in line]
        reasons = [line for line in errors if not line.startswith("UNKNOWN:")]
        others = [line for line in lines if line.strip() and line[0] not in "EIW+|"]
        return (reasons or others or [SILENT])[-1].strip()
    return SILENT


def _ports(*wanted: int | None) -> list[int]:
    """Each port as wanted, or one that is free now."""
    sockets, ports = [], []
    try:
        for port in wanted:
            one = socket.socket()
            sockets.append(one)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                one.bind((HOST, port or 0))
            except (OSError, OverflowError):
                raise TritonError(f"port {port} is {TAKEN}, or not to be had") from None
            ports.append(one.getsockname()[1])
    finally:
        for one in sockets:
            one.close()
    return ports
