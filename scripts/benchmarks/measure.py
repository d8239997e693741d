"""One network in a process of its own, measured when told to: `python -m scripts.benchmarks.measure SPEC`.

A process per network keeps its peak memory its own; the caller takes turns between the processes, so that whatever else
the machine does falls on all networks alike and ratios stay fair.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any

from scripts.core.memory import peak_bytes

MARK = "measured: "


def answer(command: Sequence[str], environment: Mapping[str, str], mark: str = MARK) -> dict[str, Any]:
    """Run a measuring process to its end.

    Args:
        command: the process; networks and libraries may print before its line.
        environment: variables on top of this process's.
        mark: what the line with its answer, one JSON, begins with.

    Returns:
        What was measured, or `error`: the last line that it wrote, or its status.
    """
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=False)
    for line in done.stdout.splitlines():
        if line.startswith(mark):
            return dict(json.loads(line.removeprefix(mark)))
    said = done.stderr.strip() or done.stdout.strip() or f"its process ended with status {done.returncode}"
    return {"error": said.splitlines()[-1][:200]}


class Worker:
    """The caller's end of one measuring process.

    Args:
        spec: network's key in `peers.NETWORKS`, size (H, W, D), threads, device, and channels_last for peers.
    """

    def __init__(self, spec: dict[str, Any]) -> None:
        threads = str(spec["threads"])
        environment = os.environ | {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
        # waiting threads sleep: spinning would count as work and slow the other processes of a shared machine
        environment |= {"OMP_WAIT_POLICY": "passive"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "scripts.benchmarks.measure", json.dumps(spec)],
            env=environment,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )

    def ask(self, command: str) -> dict[str, Any]:
        """Send a command (prepare, forward, forward_bf16, step, memory) and wait for its answer.

        Returns:
            What was measured, or `error`.
        """
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write(command + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            return {"error": "process ended"}
        # networks and their libraries may print too
        for line in self.process.stdout:
            if line.startswith(MARK):
                return dict(json.loads(line[len(MARK) :]))
        return {"error": f"process ended with status {self.process.wait()}"}

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.communicate()


class Subject:
    """The measuring process's end: a network, an input, a loss and an optimizer."""

    def __init__(self, spec: dict[str, Any]) -> None:
        import torch
        from monai.losses import DiceCELoss

        from scripts.benchmarks.peers import NETWORKS

        self.torch, self.spec, self.entry = torch, spec, NETWORKS[spec["network"]]
        self.device = torch.device(spec["device"])
        self.cuda = self.device.type == "cuda"
        torch.set_num_threads(int(spec["threads"]))
        torch.manual_seed(0)
        torch.backends.cudnn.benchmark = self.cuda
        self.loss = DiceCELoss(to_onehot_y=True, softmax=True, squared_pred=True)
        # libraries that are loaded by the first convolution are not the network's memory
        torch.nn.functional.conv3d(torch.zeros(1, 8, 8, 8, 8), torch.zeros(8, 8, 3, 3, 3))

    def prepare(self) -> dict[str, Any]:
        torch = self.torch
        self.baseline = peak_bytes(reset=True)
        network: Any = self.entry.build(self.spec["size"]).to(self.device)
        image = torch.rand(1, 1, *self.spec["size"], device=self.device)
        if self.spec.get("channels_last"):
            network, image = (t.to(memory_format=torch.channels_last_3d) for t in (network, image))
        self.network, self.image = network, image
        self.label = (torch.rand(1, 1, *self.spec["size"], device=self.device) > 0.9).float()
        self.optimizer = torch.optim.Adam(network.parameters(), lr=1e-4)
        self.step()  # allocates the optimizer's state and chooses kernels
        return {"parameters": sum(p.numel() for p in network.parameters())}

    def step(self) -> dict[str, Any]:
        def run() -> None:
            self.network.train()
            self.optimizer.zero_grad(set_to_none=True)
            self.loss(_first(self.network(self.image)), self.label).backward()
            self.optimizer.step()

        taken = self._timed(run)
        self.optimizer.zero_grad(set_to_none=True)
        return taken

    def memory(self) -> dict[str, Any]:
        """Peak of the steps so far, and the forward pass's FLOPs (counted here, outside all timing)."""
        peak = self.torch.cuda.max_memory_allocated(self.device) if self.cuda else peak_bytes() - self.baseline
        from torch.utils.flop_counter import FlopCounterMode

        with FlopCounterMode(display=False) as counter:
            self.forward()
        return {"bytes": peak, "flops": counter.get_total_flops()}

    def forward(self) -> dict[str, Any]:
        return self._timed(self._inference)

    def forward_bf16(self) -> dict[str, Any]:
        with self.torch.autocast(self.device.type, dtype=self.torch.bfloat16):
            return self._timed(self._inference)

    def _inference(self) -> None:
        self.network.eval()
        with self.torch.inference_mode():
            self.network(self.image)

    def _timed(self, work: Callable[[], None]) -> dict[str, Any]:
        if self.cuda:
            self.torch.cuda.synchronize(self.device)
        start, used = time.perf_counter(), time.process_time()
        work()
        if self.cuda:
            self.torch.cuda.synchronize(self.device)
        return {"seconds": time.perf_counter() - start, "cpu": time.process_time() - used}


def _first(output: Any) -> Any:
    """The full-resolution logits, however a network wraps them in training."""
    if isinstance(output, dict):
        return output["prediction"]
    return output[0] if isinstance(output, list | tuple) else output


def main() -> None:
    """Answer one line of JSON for each command read."""
    warnings.simplefilter("ignore")
    subject: Subject | None = None
    for line in sys.stdin:
        try:
            subject = subject or Subject(json.loads(sys.argv[1]))
            answer = getattr(subject, line.strip())()
        except ModuleNotFoundError as error:
            answer = {"missing": error.name or str(error)}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:160]}
        print(MARK + json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
