"""Programs of other people that run beside a test: MONAI Label's server, Orthanc."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
LABEL, DEPLOY = ROOT / ".venv-label", ROOT / ".venv-deploy"


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def answer(
    method: str, url: str, body: bytes | None = None, kind: str = "application/json", accept: str = "*/*"
) -> tuple[int, bytes]:
    """Status and content of an answer, whatever it is."""
    request = urllib.request.Request(url, body, {"Content-Type": kind, "Accept": accept}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=580) as got:
            return got.status, got.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def form(fields: Mapping[str, str | Path], files: Mapping[str, Path] | None = None) -> tuple[bytes, str]:
    """A body as browsers send it, and its type."""
    boundary = uuid.uuid4().hex
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in fields.items()
    ]
    for name, path in (files or {}).items():
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"; filename="{path.name}"\r\n'
        parts.append(f"{head}Content-Type: application/octet-stream\r\n\r\n".encode() + path.read_bytes() + b"\r\n")
    return b"".join(parts) + f"--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}"


@contextmanager
def running(command: list[str], ready: str, log: Path, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """A server from the moment when it answers to the end of the test."""
    with log.open("ab") as out:
        process = subprocess.Popen(
            command, stdout=out, stderr=subprocess.STDOUT, env=os.environ | environment, cwd=log.parent
        )
    try:
        deadline = time.monotonic() + 300
        while True:
            assert process.poll() is None, log.read_text(errors="replace")[-3000:]
            assert time.monotonic() < deadline, log.read_text(errors="replace")[-3000:]
            try:
                urllib.request.urlopen(ready, timeout=5).close()
                break
            except OSError:
                time.sleep(0.5)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class Label:
    """MONAI Label with bundles from their own folders and nothing of this repository on its path."""

    def __init__(self, url: str, log: Path, app: Path) -> None:
        self.url, self.log, self.app = url, log, app

    def bundle(self, name: str) -> Path:
        return self.app / "model" / name

    def infer(self, model: str, image: str, into: Path) -> Path:
        """The label map of an image of the server's."""
        status, content = self.try_infer(model, image)
        assert status == 200, f"{content[:500]!r}\n{self.said()[-3000:]}"
        into.write_bytes(content)
        return into

    def try_infer(self, model: str, image: str, output: str = "image", **params: Any) -> tuple[int, bytes]:
        body, kind = form({"params": json.dumps(params)})
        return answer("POST", f"{self.url}/infer/{model}?image={image}&output={output}", body, kind)

    def try_put_label(self, image: str, label: Path, **params: Any) -> tuple[int, bytes]:
        body, kind = form({"params": json.dumps(params)}, {"label": label})
        return answer("PUT", f"{self.url}/datastore/label?image={image}&tag=final", body, kind)

    def put_label(self, image: str, label: Path, **params: Any) -> None:
        status, content = self.try_put_label(image, label, **params)
        assert status == 200, f"{content[:500]!r}\n{self.said()[-3000:]}"

    def clear_labels(self) -> None:
        status, content = answer("GET", f"{self.url}/datastore/?output=all")
        assert status == 200, content[:500]
        for image, entry in json.loads(content)["objects"].items():
            for tag in entry.get("labels", {}):
                answer("DELETE", f"{self.url}/datastore/label?id={image}&tag={tag}")

    def train(self, model: str, **params: Any) -> None:
        plain = {"max_epochs": 1, "val_split": 0.34, "multi_gpu": False, "tracking": "None", "device": "cpu"}
        body = json.dumps(plain | params).encode()
        status, content = answer("POST", f"{self.url}/train/{model}?run_sync=true", body)
        assert status == 200, f"{content[:500]!r}\n{self.said()[-3000:]}"

    def wait_for(self, sentence: str) -> None:
        """The log tells of a failure after the client has its answer."""
        deadline = time.monotonic() + 20
        while sentence not in self.said():
            assert time.monotonic() < deadline, self.said()[-3000:]
            time.sleep(0.2)

    def said(self) -> str:
        return self.log.read_text(errors="replace")


@contextmanager
def label_server(work: Path, bundles: list[Path], studies: str, **environment: str) -> Iterator[Label]:
    """Start MONAI Label, offline, as docs/clients.md says."""
    python = LABEL / "bin/python"
    if not python.is_file():
        pytest.fail("MONAI Label is not installed: run `make clients`")
    app = work / "monaibundle"
    shutil.copytree(LABEL / "monailabel/sample-apps/monaibundle", app)
    for bundle in bundles:
        shutil.copytree(bundle, app / "model" / bundle.name)
    port, log = free_port(), work / "label.log"
    command = [str(python), str(ROOT / "tests/clients/label_start.py"), "start_server", "--app", str(app)]
    command += ["--studies", studies, "--host", "127.0.0.1", "--port", str(port)]
    for key, value in {"zoo_source": "local", "sam2": "false", "models": ",".join(b.name for b in bundles)}.items():
        command += ["--conf", key, value]
    # programs of its own environment, such as itkimage2segimage; no code but a bundle's own
    own = {
        "PATH": f"{LABEL / 'bin'}:{os.environ['PATH']}",
        "PYTHONPATH": "",
        "PYTHONUNBUFFERED": "1",
        "HOME": str(work),
        "CUDA_VISIBLE_DEVICES": "",
    }
    url = f"http://127.0.0.1:{port}"
    with running(command, f"{url}/info/", log, **own, **environment):
        yield Label(url, log, app)


class Orthanc:
    """A PACS of the test's own."""

    def __init__(self, url: str) -> None:
        self.url, self.web = url, f"{url}/dicom-web"

    def store(self, files: list[Path]) -> None:
        """STOW-RS."""
        boundary = uuid.uuid4().hex
        head = f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
        body = b"".join(head + path.read_bytes() + b"\r\n" for path in files) + f"--{boundary}--\r\n".encode()
        kind = f'multipart/related; type="application/dicom"; boundary={boundary}'
        status, content = answer("POST", f"{self.web}/studies", body, kind, "application/dicom+json")
        assert status == 200, content[:500]

    def of_modality(self, modality: str, folder: Path) -> list[Path]:
        """Fetch the files of a modality."""
        query = json.dumps({"Level": "Instance", "Query": {"Modality": modality}}).encode()
        files = []
        for name in json.loads(answer("POST", f"{self.url}/tools/find", query)[1]):
            files.append(folder / f"{name}.dcm")
            files[-1].write_bytes(answer("GET", f"{self.url}/instances/{name}/file")[1])
        return files


@contextmanager
def orthanc(work: Path) -> Iterator[Orthanc]:
    """Start Orthanc with its DICOMweb plugin on loopback; gives its address."""
    program, plugin = shutil.which("Orthanc"), Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
    if program is None or not plugin.is_file():
        pytest.fail("Orthanc or its DICOMweb plugin is missing: apt install orthanc orthanc-dicomweb")
    port = free_port()
    settings = {
        "StorageDirectory": str(work / "orthanc"),
        "IndexDirectory": str(work / "orthanc"),
        "HttpPort": port,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "DicomServerEnabled": False,
        "Plugins": [str(plugin)],
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
    }
    (work / "orthanc.json").write_text(json.dumps(settings))
    url = f"http://127.0.0.1:{port}"
    with running([program, str(work / "orthanc.json")], f"{url}/system", work / "orthanc.log"):
        yield Orthanc(url)
