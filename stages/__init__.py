"""The stages: every module here is one."""

import signal
import sys

# `python -m stages.<stage>` is still importing, torch for seconds, and has written nothing: Ctrl-C may end it on the
# spot, without Python's traceback. From `command.run` on, a signal is an exception.
if sys.argv[:1] == ["-m"] and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
