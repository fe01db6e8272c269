"""Each test file in a process that ends

A process that runs half of all files keeps what each of them loaded and computed, and only grows. So one of pytest's
workers (xdist) looks for all tests, and for each file forks a process that runs its tests and ends: what the file took
goes with it, and it has seen no other file. Without workers (`CORES=0`, or one file by hand) nothing of this is done.
pytest-forked does that for each test, which costs minutes here; nothing does it for a file.
"""

import faulthandler, multiprocessing
from contextlib import suppress

import pytest
from xdist.remote import serialize_warning_message
from xdist.workermanage import unserialize_warning_message

NAME = 'each file in a process that ends'
alone = False  # Is this a process that runs a single file?


class Heard:
    "In the forked process: what pytest would have told the first one"

    def __init__(self, config):
        self.config, self.told = config, []

    def pytest_runtest_logreport(self, report):
        words = self.config.hook.pytest_report_to_serializable(config=self.config, report=report)
        self.told.append(('pytest_runtest_logreport', words))

    def pytest_warning_recorded(self, warning_message, when, nodeid, location):
        words = dict(when=when, nodeid=nodeid, location=location)
        self.told.append(('pytest_warning_recorded', (serialize_warning_message(warning_message), words)))


def _worker(manager):
    "xdist's part of a worker, which tells the first process of all"
    return next(plugin for plugin in manager.get_plugins() if type(plugin).__name__ == 'WorkerInteractor')


def _serve(session, pipe, largest):
    "In the forked process: run what is asked for, and tell; until the other end is closed"
    global alone
    alone = True
    manager, items, heard = session.config.pluginmanager, session.items, Heard(session.config)
    manager.unregister(name=NAME)
    manager.unregister(_worker(manager))
    manager.register(heard)
    heard.told = []  # Warnings of before are told to whoever comes later
    with suppress(EOFError):
        while True:
            at, following = pipe.recv()
            following = None if following is None else items[following]
            session.config.hook.pytest_runtest_protocol(item=items[at], nextitem=following)
            pipe.send((heard.told, (largest.most, largest.test), session.shouldfail, session.shouldstop))
            heard.told = []


class Apart:
    "The plugin of a worker"

    def __init__(self, config, largest):
        self.config, self.largest = config, largest
        self.process = None

    @pytest.hookimpl(trylast=True)
    def pytest_collection_finish(self, session):
        self.session = session
        self.places = {item: place for place, item in enumerate(session.items)}
        self.config._tmp_path_factory.getbasetemp()  # pytest empties it when it is first asked for

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item, nextitem):
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        same = nextitem is not None and nextitem.path == item.path
        if not self.process:
            self._fork()
        try:
            self.pipe.send((self.places[item], self.places[nextitem] if same else None))
            told, most, self.session.shouldfail, self.session.shouldstop = self._answer()
        except (EOFError, OSError):
            told, same = [('pytest_runtest_logreport', self._ended(item, 'call', self.end()))], False
        else:
            self.largest.told(*most)
        for name, words in told:
            getattr(self, name[len('pytest_') :])(item, words)
        code = 0 if same else self.end()
        if code:
            self.runtest_logreport(item, self._ended(item, 'teardown', code))
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        return True

    def _fork(self):
        faulthandler.cancel_dump_traceback_later()  # Its thread is not there after a fork, which would wait for it
        self.pipe, other = multiprocessing.Pipe()
        given = self.session, other, self.largest
        self.process = multiprocessing.get_context('fork').Process(target=self._alone, args=(self.pipe, *given))
        self.process.start()
        other.close()

    def _answer(self):
        "What the forked process tells; children of its own may keep its end open when it has died"
        while not self.pipe.poll(0.5):
            if not self.process.is_alive() and not self.pipe.poll():
                raise EOFError
        return self.pipe.recv()

    @staticmethod
    def _alone(first_end, *given):
        first_end.close()  # Else this process would never hear that the first one has ended
        _serve(*given)

    def end(self):
        "The forked process has no more to do; its exit code, 0 where there is none"
        if not self.process:
            return 0
        self.pipe.close()
        self.process.join()
        code, self.process = self.process.exitcode, None
        return code

    def _ended(self, item, when, code):
        "The report of a test in which its process ended, or after which it ended with an error"
        place = 'in' if when == 'call' else 'after'
        why = f'the process of {item.path.name} ended {place} this test with exit code {code}'
        report = pytest.TestReport(item.nodeid, item.location, dict.fromkeys(item.keywords, 1), 'failed', why, when)
        return self.config.hook.pytest_report_to_serializable(config=self.config, report=report)

    def runtest_logreport(self, item, words):
        report = self.config.hook.pytest_report_from_serializable(config=self.config, data=words)
        item.ihook.pytest_runtest_logreport(report=report)

    def warning_recorded(self, item, words):
        message, words = words
        message = unserialize_warning_message(message)
        _worker(self.config.pluginmanager).pytest_warning_recorded(warning_message=message, **words)

    def pytest_sessionfinish(self):
        self.end()
