"""Starting `monai.bundle` as a user would, and showing the command."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from custom_networks import CaseError

PROGRESS_BAR = re.compile(r"\d+%\|.*\||\b[0-9.]+(it/s|s/it)|\?it/s|\?s/it")


def check_overrides(bundle: Path, configs: Sequence[str], overrides: Mapping[str, Any]) -> None:
    """Refuse an override that no configuration file knows; monai.bundle would ignore it silently.

    Args:
        bundle: the bundle's folder.
        configs: configuration files, relative to it.
        overrides: ids and values.

    Raises:
        CaseError: a file is missing or an id is unknown.
    """
    import difflib

    known: dict[str, Any] = {}
    for config in configs:
        file = bundle / config
        if not file.is_file():
            raise CaseError(
                f"bundle {bundle.name}", f"{file} does not exist", "name one of the files in its configs folder"
            )
        known.update(json.loads(file.read_text(encoding="utf-8")))
    for name in overrides:
        head = name.split("#")[0]
        if head not in known:
            near = difflib.get_close_matches(head, list(known), n=1)
            raise CaseError(
                f"bundle {bundle.name}",
                f"--{name} overrides nothing in {', '.join(configs)}",
                f"did you mean --{near[0]}" if near else "see train.json for the ids that exist",
            )


def bundle_command(bundle: Path, configs: Sequence[str], overrides: Mapping[str, Any], processes: int = 1) -> list[str]:
    """The command line of one run.

    Args:
        bundle: the bundle's folder, where the command is to be started.
        configs: configuration files, relative to it; later ones override earlier ones.
        overrides: ids and values, on top of the files.
        processes: ranks; more than one starts through torchrun.

    Returns:
        The words of the command.

    Raises:
        CaseError: see `check_overrides`.
    """
    check_overrides(bundle, configs, overrides)
    start = [sys.executable, "-W", "ignore", "-m"]
    if processes > 1:
        start += ["torch.distributed.run", "--standalone", f"--nproc_per_node={processes}", "-m"]
    files = configs[0] if len(configs) == 1 else "[" + ",".join(map(repr, configs)) + "]"
    words = [*start, "monai.bundle", "run", "--config_file", files, "--logging_file", "configs/logging.conf"]
    for name, value in overrides.items():
        words += [f"--{name}", value if isinstance(value, str) else repr(value)]
    return words


def shown_command(bundle: Path, words: Sequence[str]) -> str:
    """A command as a user would type it."""
    return f"$ cd {shlex.quote(str(bundle))}; " + shlex.join(["python", *words[1:]])


def run_bundle(
    bundle: Path,
    configs: Sequence[str],
    overrides: Mapping[str, Any],
    processes: int = 1,
    log: Path | None = None,
) -> None:
    """Run a bundle in its own folder and process, after printing the command. The run ends with the caller, however that ends.

    Args:
        bundle: the bundle's folder.
        configs: see `bundle_command`.
        overrides: see `bundle_command`.
        processes: see `bundle_command`.
        log: file that what the run prints is added to, progress bars excepted, which are shown; None shows everything.

    Raises:
        CaseError: the run failed; the sentence ends with the reason it gave.
    """
    words = bundle_command(bundle, configs, overrides, processes)
    shown = shown_command(bundle, words)
    print(shown, flush=True)
    environment = dict(os.environ)
    package = str(Path(__file__).resolve().parents[3])
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [package, environment.get("PYTHONPATH")]))
    start = [sys.executable, str(Path(__file__).with_name("with_parent.py")), str(os.getpid()), *words]
    if log is None:
        status = subprocess.run(start, cwd=bundle, env=environment, check=False).returncode
        reason, remedy = "", "see above"
    else:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a", encoding="utf-8") as stream:
            stream.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {shown}\n")
            stream.flush()
            pipe = subprocess.PIPE
            with subprocess.Popen(start, cwd=bundle, env=environment, stdout=stream, stderr=pipe) as run:
                assert run.stderr is not None
                reason = _copied(io.TextIOWrapper(run.stderr, encoding="utf-8", errors="replace", newline=""), stream)
            status = run.returncode
        remedy = f"see {log}"
    if status:
        ended = f"the run ended with status {status}" + (f" ({reason})" if reason else "")
        raise CaseError(f"bundle {bundle.name}", ended, remedy)


def _copied(errors: TextIO, log: TextIO) -> str:
    """Show what a run writes to stderr while it does; add it to the log without progress bars; give its last line."""
    last, line = "", ""
    while piece := errors.read(1):
        sys.stderr.write(piece)
        if piece not in "\r\n":
            line += piece
            continue
        sys.stderr.flush()
        if line.strip() and not PROGRESS_BAR.search(line):
            log.write(line + "\n")
            log.flush()
            last = line
        line = ""
    if line.strip():
        log.write(line + "\n")
        last = line
    return last.removeprefix("error: ").strip().removesuffix(".")
