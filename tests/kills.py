"Run a function in a child process that dies before its n-th rename: every point at which a file becomes visible"

import os, sys, traceback


def killed_at(n, f, log=None):
    "Exit code: 9 killed, 0 it came to its end before, 1 it raised an error"
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    real, left = os.replace, [n]

    def replace(a, b):
        left[0] -= 1
        if left[0] < 0:
            os._exit(9)
        real(a, b)

    try:
        os.replace = replace
        f()
        os._exit(0)
    except BaseException:
        if log:
            log.write_text(traceback.format_exc())
        os._exit(1)
