"""Three nodes to test against.

Those whose ports are given, else a cluster of `cardea dev` that lives as long as
the tests:

    CARDEA_PUBLIC_PORTS, CARDEA_ADMIN_PORTS   three each, on CARDEA_HOST
    CARDEA_KETO_PORTS                         nine, for those of Keto's clients
    CARDEA_BINARY                             what is started if they are not given
"""

import os
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

HOST = os.environ.get("CARDEA_HOST", "127.0.0.1")
READY_WITHIN_S = 120


def _urls(variable, default):
    ports = os.environ.get(variable, default).split()
    return [f"http://{HOST}:{port}" for port in ports]


class Cluster:
    def __init__(self):
        self.process = None
        self.directory = None
        self.public = _urls("CARDEA_PUBLIC_PORTS", "4433 4533 4633")
        self.admin = _urls("CARDEA_ADMIN_PORTS", "4434 4534 4634")
        # Keto's own ports, three a node: read, write, language.
        keto = os.environ.get("CARDEA_KETO_PORTS", "").split()
        if "CARDEA_PUBLIC_PORTS" not in os.environ:
            keto = [port + 100 * node for node in range(3) for port in (4466, 4467, 4469)]
        self.keto = [tuple(keto[at:at + 3]) for at in range(0, len(keto), 3)]
        assert len(self.public) == len(self.admin) == 3, "three nodes are needed"

    def start(self):
        if "CARDEA_PUBLIC_PORTS" in os.environ:
            self._wait()
            return
        binary = os.environ.get("CARDEA_BINARY")
        if not binary:
            raise RuntimeError("neither CARDEA_PUBLIC_PORTS nor CARDEA_BINARY is set")
        self.directory = tempfile.mkdtemp(prefix="cardea-python-")
        self.log = open(os.path.join(self.directory, "log"), "wb")
        data = os.path.join(self.directory, "data")
        # The tester's own variables are no settings of a node, which would refuse them.
        environment = {k: v for k, v in os.environ.items() if not k.startswith("CARDEA_")}
        self.process = subprocess.Popen(
            [binary, "dev", "--data", data, "--verbose"],
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=subprocess.STDOUT,
            start_new_session=True, env=environment,
        )
        try:
            self._wait()
        except BaseException:
            self._show_log()
            self.stop()
            raise

    def stop(self):
        if self.process is not None:
            if self.process.poll() is None:
                self.process.send_signal(signal.SIGTERM)
                try:
                    self.process.wait(timeout=30)
                except subprocess.TimeoutExpired:
                    os.killpg(self.process.pid, signal.SIGKILL)
                    self.process.wait()
            self.log.close()
            self.process = None
        if self.directory is not None:
            shutil.rmtree(self.directory, ignore_errors=True)
            self.directory = None

    def _show_log(self):
        self.log.flush()
        with open(self.log.name, errors="replace") as lines:
            print("".join(lines.readlines()[-40:]))

    def _wait(self):
        until = time.monotonic() + READY_WITHIN_S
        for url in self.public:
            while not self._is_ready(url):
                if self.process is not None and self.process.poll() is not None:
                    raise RuntimeError(f"the nodes ended with {self.process.returncode}")
                if time.monotonic() > until:
                    raise RuntimeError(f"{url} is not ready after {READY_WITHIN_S} s")
                time.sleep(0.1)

    @staticmethod
    def _is_ready(url):
        try:
            with urllib.request.urlopen(f"{url}/health/ready", timeout=2) as answer:
                return answer.status == 200
        except (urllib.error.URLError, OSError):
            return False
