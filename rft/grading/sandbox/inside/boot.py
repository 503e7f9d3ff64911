"""The script that a sandboxed interpreter starts with: imports `child` without the packages that it lies in.

Those would import all of rft's grading, and take longer than the program. So empty modules stand in for them, and are
gone again before the program runs.

    python -s -P -S boot.py ORDER_FD REPORT_FD
"""

import sys

if __name__ == "__main__":
    folder = __file__.rpartition("/")[0]
    for name in ("rft.grading.sandbox.inside", "rft.grading.sandbox", "rft.grading", "rft"):
        package = sys.modules[name] = type(sys)(name)
        package.__path__ = [folder]
        folder = folder.rpartition("/")[0]
    from rft.grading.sandbox.inside.child import main

    for name in [name for name in sys.modules if name.partition(".")[0] == "rft"]:
        del sys.modules[name]
    main(int(sys.argv[1]), int(sys.argv[2]))
