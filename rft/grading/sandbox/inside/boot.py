"""The start script of the sandbox's zygote: imports `child` without its parent packages.

The parent packages would import all of rft's grading, which no program may see. Empty modules replace them, and are
removed before the first fork.

    python -s -P -S boot.py CONTROL_FD
"""

import _sitebuiltins
import builtins
import sys

if __name__ == "__main__":
    folder = __file__.rpartition("/")[0]
    for name in ("rft.grading.sandbox.inside", "rft.grading.sandbox", "rft.grading", "rft"):
        package = sys.modules[name] = type(sys)(name)
        package.__path__ = [folder]
        folder = folder.rpartition("/")[0]
    from rft.grading.sandbox.inside.child import main
    from rft.grading.sandbox.inside.serve import serve

    for name in [name for name in sys.modules if name.partition(".")[0] == "rft"]:
        del sys.modules[name]
    for name in ("exit", "quit"):  # defined by the module `site`; programs may use them
        setattr(builtins, name, _sitebuiltins.Quitter(name, "Ctrl-D"))
    main(*serve(int(sys.argv[1])))
