"""A daemon that is killed and started again in the same folder and on the same port, for scripts that have one of their own."""

import os
import signal
import socket
import subprocess
import time

# How long a start may take on a busy machine.
PATIENCE_S = 60


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


class Daemon:
    """`config` is TOML."""

    def __init__(self, inrush, folder, config=""):
        self.inrush, self.folder, self.port = inrush, folder, free_port()
        self.address = f"127.0.0.1:{self.port}"
        with open(f"{folder}/inrush.toml", "w", encoding="utf-8") as file:
            file.write(config)
        self.start()

    def start(self):
        command = [self.inrush, "serve", "--config", f"{self.folder}/inrush.toml", "--data", f"{self.folder}/data", "--kafka", self.address]
        command += ["--http", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--pipelines", f"{self.folder}/none"]
        with open(f"{self.folder}/log", "a", encoding="utf-8") as log:
            self.process = subprocess.Popen(command, stderr=log, stdout=log, env={**os.environ, "RUST_LOG": "info"})

    def wait_until_it_answers(self):
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                time.sleep(0.02)
        raise TimeoutError("the daemon does not answer")

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
