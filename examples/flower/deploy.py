"""Run the app as a deployment on this machine: a SuperLink and three SuperNodes, with TLS and authenticated nodes.

    python deploy.py                                # in this folder; writes deployment/
    python deploy.py --set num-server-rounds=8      # any setting of pyproject.toml's [tool.flwr.app.config]

The server's model and the guard's history are in the folder deployment.
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from credentials import make_credentials

HERE = Path(__file__).resolve().parent
NODES = 3
_STARTING = 120.0


class Deployment:
    """The processes of a federation on this machine.

    Args:
        folder: for keys, logs, the guard's history and the final model.
        app: the folder of the app.
    """

    def __init__(self, folder: Path, app: Path = HERE) -> None:
        self.folder, self.app = folder.resolve(), app
        self.keys = self.folder / "keys"
        self.link, self.fleet, self.control, *self.node_ports = _free_ports(3 + NODES)
        self.superlink: subprocess.Popen[bytes] | None = None
        self.supernodes: list[subprocess.Popen[bytes]] = []
        self.environment = os.environ | {
            "FLWR_HOME": str(self.folder / "flower"),
            "FLWR_TELEMETRY_ENABLED": "0",
            "OMP_NUM_THREADS": "1",  # several processes share the processors
            "FLWR_DISABLE_UPDATE_CHECK": "1",
            "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
        }

    @contextmanager
    def running(self) -> Iterator[Deployment]:
        """Start everything; within, :meth:`run` can be called. All processes end with the context."""
        (self.folder / "flower").mkdir(parents=True, exist_ok=True)
        make_credentials(self.keys, NODES)
        (self.folder / "flower" / "config.toml").write_text(
            f'[superlink]\ndefault = "here"\n\n[superlink.here]\naddress = "127.0.0.1:{self.link}"\n'
            f'root-certificates = "{self.keys / "ca.crt"}"\n',
            encoding="utf-8",
        )
        with ExitStack() as stack:
            self.superlink = stack.enter_context(self._started("superlink", self._superlink_options()))
            _wait_for(self.link, self.superlink)
            for number in range(NODES):
                self.flwr("supernode", "register", str(self.keys / f"node-{number}.pub"), "here")
                self.supernodes.append(
                    stack.enter_context(self._started(f"supernode-{number}", self._supernode_options(number)))
                )
            yield self

    def run(self, settings: Sequence[str] = (), timeout: float | None = None) -> str:
        """``flwr run``; returns when the federation has ended.

        Args:
            settings: of the app, ``name=value`` in TOML.
            timeout: seconds to wait.
        """
        given = {"history": f"'{self.folder / 'guard-history'}'"} | dict(
            each.split("=", 1) for each in settings
        )
        config = " ".join(f"{name}={value}" for name, value in given.items())
        return self.flwr("run", str(self.app), "here", "--stream", "--run-config", config, timeout=timeout)

    def flwr(self, *arguments: str, timeout: float | None = 120.0) -> str:
        """One command of Flower's; returns what it printed."""
        done = subprocess.run(
            ["flwr", *arguments],
            env=self.environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        if done.returncode:
            raise SystemExit(f"flwr {arguments[0]} failed:\n{done.stdout}\n{done.stderr}")
        return done.stdout + done.stderr

    def log(self, name: str) -> str:
        """What a process has logged: ``superlink`` or ``supernode-N``."""
        return (self.folder / f"{name}.log").read_text(encoding="utf-8", errors="replace")

    @contextmanager
    def _started(self, name: str, options: list[str]) -> Iterator[subprocess.Popen[bytes]]:
        program = shutil.which(options[0], path=self.environment["PATH"])
        if program is None:
            raise SystemExit(f"{options[0]} isn't installed; install fedmend[flower]")
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [program, *options[1:]],
                stdout=log,
                stderr=log,
                env=self.environment,
                cwd=self.folder,
                start_new_session=True,
            )
            try:
                yield process
            finally:
                _stop(process)

    def _superlink_options(self) -> list[str]:
        return [
            "flower-superlink",
            "--host=127.0.0.1",
            f"--port={self.link}",
            f"--fleet-api-address=127.0.0.1:{self.fleet}",
            f"--control-api-address=127.0.0.1:{self.control}",
            f"--ssl-ca-certfile={self.keys / 'ca.crt'}",
            f"--ssl-certfile={self.keys / 'server.crt'}",
            f"--ssl-keyfile={self.keys / 'server.key'}",
            "--enable-supernode-auth",
        ]

    def _supernode_options(self, number: int) -> list[str]:
        return [
            "flower-supernode",
            f"--superlink=127.0.0.1:{self.link}",
            f"--root-certificates={self.keys / 'ca.crt'}",
            f"--auth-supernode-private-key={self.keys / f'node-{number}'}",
            f"--node-config=partition-id={number} num-partitions={NODES}",
            f"--port={self.node_ports[number]}",
        ]


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + _STARTING
    while time.monotonic() < until and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.2)
    raise SystemExit("the SuperLink didn't start; see superlink.log")


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End a process and those that it started."""
    for signal in (15, 9):
        try:
            os.killpg(process.pid, signal)
        except ProcessLookupError:
            return
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            continue


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("deployment"))
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="NAME=VALUE")
    given = parser.parse_args()
    with Deployment(given.out).running() as deployment:
        print(deployment.run(given.settings))


if __name__ == "__main__":
    main()
