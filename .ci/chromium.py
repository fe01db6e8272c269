"Chromium, as the `_browser.py` scripts beside this file start it"

import importlib.util
import shutil
import socket
from contextlib import contextmanager

NAMES = 'chromium', 'chromium-browser', 'google-chrome'
FLAGS = ['--no-sandbox', '--disable-gpu', '--disable-background-networking']


def program():
    "Where it is; None if it is not installed"
    return next(filter(None, map(shutil.which, NAMES)), None)


def lacks():
    "What is missing, a line; None if all is there"
    if not importlib.util.find_spec('playwright'):
        return 'playwright is not installed: pip install playwright'
    if not program():
        return 'no Chromium: apt-get install chromium'


@contextmanager
def browser():
    "A browser without a window, closed at the end"
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        started = play.chromium.launch(executable_path=program(), args=FLAGS)
        yield started
        started.close()


def free_port():
    "A port of this machine that nobody uses"
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]
