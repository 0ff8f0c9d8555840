"""Runs commands and scripts in forks of one process, which has imported torch already: seconds less for each.

``python fork_server.py FOLDER`` writes two programs, FOLDER/fedmend and FOLDER/script; run, they ask this server to
do what ``fedmend`` and ``python`` would. It prints a line once they can be run.
"""

from __future__ import annotations

import json
import os
import runpy
import socket
import sys
from pathlib import Path
from typing import NoReturn

_CLIENT = """#!{python} -IS
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as server:
    server.connect({address!r})
    asked = [{program!r}, sys.argv[1:], os.getcwd(), dict(os.environ)]
    words = json.dumps(asked).encode()
    socket.send_fds(server, [len(words).to_bytes(4, "big")], [0, 1, 2])
    server.sendall(words)
    sys.exit(int(server.recv(8)))
"""


def main(folder: Path) -> None:
    """Serve, one at a time, until this process is ended."""
    import torch._dynamo  # noqa: F401 - optimizers do

    import fedmend.cli.demo_command
    import fedmend.cli.report_command
    import fedmend.cli.scan_command
    import fedmend.cli.several_scans
    import fedmend.cli.simulate_command  # noqa: F401

    address = str(folder / "socket")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(address)
        listening.listen()
        for program in ("fedmend", "script"):
            client = folder / program
            client.write_text(_CLIENT.format(python=sys.executable, address=address, program=program))
            client.chmod(0o755)
        print("ready", flush=True)
        while True:
            connection, _ = listening.accept()
            child = os.fork()
            if child == 0:
                listening.close()
                _become(connection)
            _, status = os.waitpid(child, 0)
            connection.sendall(str(os.waitstatus_to_exitcode(status)).encode())
            connection.close()


def _become(connection: socket.socket) -> NoReturn:
    """Do as the client is asked to: with its streams, in its folder and environment."""
    length, streams, _, _ = socket.recv_fds(connection, 4, 3)
    words = b""
    while len(words) < int.from_bytes(length, "big"):
        words += connection.recv(1 << 16)
    connection.close()
    program, arguments, folder, environment = json.loads(words)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    if program == "fedmend":
        sys.argv = [program, *arguments]
        from fedmend.__main__ import main as fedmend

        fedmend()
    sys.argv = list(arguments)
    sys.path[0] = str(Path(arguments[0]).resolve().parent)
    runpy.run_path(arguments[0], run_name="__main__")
    sys.exit()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
