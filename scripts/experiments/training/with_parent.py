"""Start a program that ends when its parent does: `python with_parent.py PARENT_PID PROGRAM ARGUMENT …`.

A training that outlives the verb that started it would go on writing into a folder that the next call takes up.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Ask the kernel to end this process with its parent, then become the program."""
    parent, program = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        # survives exec; torchrun passes SIGTERM on to its ranks
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != parent:
            sys.exit("the parent ended before its program began")
    os.execvp(program[0], program)


if __name__ == "__main__":
    main()
