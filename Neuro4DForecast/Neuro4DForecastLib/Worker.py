"""The command line, for as long as Slicer lives: `python -m Neuro4DForecastLib.Worker PID forecast ...`.

Cancel kills the worker; but should Slicer crash, nobody is left to do so. The worker then ends by itself and takes the
folder of its run along. Slicer's process id is handed over, since a launcher may stand between the two.
"""

import os
import sys
import threading
import time
from pathlib import Path

from Neuro4DForecastLib import ProcessTree, RunFolder

LOOK_EVERY_SECONDS = 1.0


def watch(slicerId: int, folder: Path) -> None:
    while ProcessTree.alive(slicerId):
        time.sleep(LOOK_EVERY_SECONDS)
    RunFolder.remove(folder)
    os._exit(1)


def main(arguments: list[str]) -> int:
    slicerId, *command = arguments
    threading.Thread(target=watch, args=(int(slicerId), Path.cwd()), daemon=True).start()
    from neuro4d_lib import cli

    return cli.main(command)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
