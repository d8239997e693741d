"""A headless Chromium that opens a page as a user would, spoken to by its DevTools protocol over two pipes."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import signal
import tempfile
import time
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
OPTIONS = (
    *("--headless=new", "--no-first-run", "--hide-scrollbars", "--mute-audio", "--disable-extensions"),
    # as root in a container there is no sandbox; WebGL is drawn in software
    *("--no-sandbox", "--disable-dev-shm-usage", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"),
    "--remote-debugging-pipe",
)


def chromium() -> str | None:
    """Path of a Chromium, where there is one."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Browser:
    """One tab.

    Attributes:
        requests: addresses that were asked for.
        errors: what was said to the console as an error or a warning, and exceptions.
    """

    def __init__(self, program: str, seconds: float = 60.0) -> None:
        self.seconds, self.profile, self.number = seconds, tempfile.mkdtemp(prefix="browser_"), 0
        self.requests: list[str] = []
        self.errors: list[str] = []
        self.read = bytearray()
        to_read, self.send = os.pipe()
        self.receive, to_write = os.pipe()
        # out of the way of 3 and 4, which Chromium reads and writes
        given = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in (to_read, to_write)]
        os.close(to_read)
        os.close(to_write)
        quiet = [(os.POSIX_SPAWN_OPEN, n, os.devnull, os.O_RDWR, 0) for n in (0, 1, 2)]
        moved = [(os.POSIX_SPAWN_DUP2, end, n) for n, end in zip((3, 4), given, strict=True)]
        words = [program, *OPTIONS, f"--user-data-dir={self.profile}", "about:blank"]
        self.process = os.posix_spawn(program, words, os.environ, file_actions=[*quiet, *moved], setpgroup=0)
        for end in given:
            os.close(end)
        self.session = ""
        tab = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=tab, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command and wait for its answer; events on the way are noted."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.send, json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != self.number:
            self._note(answer)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        return dict(answer["result"])

    def open(self, file: Path, width: int = 1440, height: int = 900, dark: bool = False) -> None:
        """Open a file in a window of this size, and wait until it has loaded."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        self.requests.clear()
        self.errors.clear()
        self.call("Page.navigate", url=file.resolve().as_uri())
        self.wait("document.readyState === 'complete' && location.protocol === 'file:'")

    def evaluate(self, expression: str) -> Any:
        """The value of an expression of JavaScript, awaited where it is a promise."""
        answer = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{expression}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def wait(self, expression: str) -> None:
        """Wait until an expression is true."""
        end = time.monotonic() + self.seconds
        while not self.evaluate(f"Boolean({expression})"):
            if time.monotonic() > end:
                raise TimeoutError(f"{expression}; {self.errors}")
            time.sleep(0.05)

    def press(self, key: str) -> None:
        """Press and release a key, such as `Tab`, `Enter`, `ArrowUp` or `t`."""
        codes = {"Enter": 13, "Tab": 9, " ": 32, "ArrowUp": 38, "ArrowDown": 40}
        text = {"Enter": "\r"}.get(key, key if len(key) == 1 else "")
        given = {"key": key, "windowsVirtualKeyCode": codes.get(key, ord(key[0].upper()))}
        self.call("Input.dispatchKeyEvent", type="keyDown", **given, **({"text": text} if text else {}))
        self.call("Input.dispatchKeyEvent", type="keyUp", **given)

    def picture(self, file: Path, whole: bool = False) -> Path:
        """A PNG of the window, or of the whole page."""
        data = self.call("Page.captureScreenshot", captureBeyondViewport=whole)["data"]
        file.write_bytes(base64.b64decode(data))
        return file

    def close(self) -> None:
        """End the browser and what it started."""
        os.close(self.send)
        os.close(self.receive)
        os.killpg(self.process, signal.SIGKILL)
        os.waitpid(self.process, 0)
        shutil.rmtree(self.profile, ignore_errors=True)

    def _next(self) -> dict[str, Any]:
        end = time.monotonic() + self.seconds
        while b"\0" not in self.read:
            ready, _, _ = select.select([self.receive], [], [], max(0.0, end - time.monotonic()))
            piece = os.read(self.receive, 1 << 20) if ready else b""
            if not piece:
                raise TimeoutError("the browser does not answer")
            self.read += piece
        message, _, self.read = self.read.partition(b"\0")
        return dict(json.loads(bytes(message)))

    def _note(self, event: dict[str, Any]) -> None:
        method, given = event.get("method"), event.get("params", {})
        if method == "Network.requestWillBeSent":
            self.requests.append(given["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.errors.append(str(given["exceptionDetails"]))
        elif method == "Log.entryAdded" and given["entry"]["level"] in {"error", "warning"}:
            self.errors.append(given["entry"]["text"])
        elif method == "Runtime.consoleAPICalled" and given["type"] in {"error", "warning", "assert"}:
            self.errors.append(str([piece.get("value", piece.get("description")) for piece in given["args"]]))
