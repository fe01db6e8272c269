"Each test file in a process that ends: the same reports, and a process that dies takes one test with it"

from pathlib import Path

import pytest

import quick

HERE = Path(__file__).parent
CONFTEST = """
import sys
sys.path.insert(0, {here!r})
import apart, quick

largest = quick.Largest()

def pytest_configure(config):
    if hasattr(config, 'workerinput'):
        config.pluginmanager.register(apart.Apart(config, largest), apart.NAME)

def pytest_runtest_teardown(item):
    largest.told(1e6 if 'large' in item.name else 1, item.nodeid)

def pytest_sessionfinish(session):
    if hasattr(session.config, 'workerinput'):
        session.config.workeroutput['memory'] = largest.line('it')

def pytest_testnodedown(node):
    print(node.workeroutput['memory'])
"""
FIRST = """
import os, warnings
import pytest

@pytest.fixture(scope='module', autouse=True)
def module():
    tell('begin')
    yield
    tell('end')

def tell(word):
    with open('told', 'a') as file:
        print(word, __name__, os.getpid(), os.getppid(), file=file)

@pytest.mark.parametrize('i', range(2))
def test_passes(i, tmp_path):
    assert not list(tmp_path.iterdir())
    tell('pass')

def test_large():
    tell('large')
"""
SECOND = FIRST.replace('test_large', 'test_second') + """
def test_fails():
    assert [1, 2] == [1, 3], 'a word of its own'

def test_skips():
    pytest.skip('for a reason')

def test_warns():
    warnings.warn('a word of warning')
"""
DIES = SECOND.split('def test_fails')[0] + """
def test_before():
    tell('before')

def test_dies():
    os.kill(os.getpid(), 9)

def test_after():
    tell('after')
"""

LEAVES = """
import os, time
from pathlib import Path

def test_dies_before_its_child():
    child = os.fork()
    if not child:
        time.sleep(20)
        os._exit(0)
    Path('told').write_text(f'child is {child} here')
    os.kill(os.getpid(), 9)

def test_after():
    os.kill(int(Path('told').read_text().split()[2]), 9)
"""


def run(tmp_path, *words, **files):
    "(what pytest says, (word, file, process, its parent) of what the tests told)"
    (tmp_path / 'conftest.py').write_text(CONFTEST.format(here=str(HERE)))
    (tmp_path / 'pytest.ini').write_text('[pytest]\n')
    for name, text in files.items():
        (tmp_path / f'test_{name}.py').write_text(text)
    code = f'import sys, pytest\nsys.exit(pytest.main({list(words)!r}))'
    said, errors = quick.Program('-c', code, at=tmp_path).communicate()
    told = [line.split() for line in (tmp_path / 'told').read_text().splitlines()]
    return said + errors, told


@pytest.fixture(scope='module')
def two(tmp_path_factory):
    return run(tmp_path_factory.mktemp('two'), '-n', '1', '-rs', first=FIRST, second=SECOND)


def test_a_file_has_a_process_and_none_of_another(two):
    processes = {name: {row[2] for row in two[1] if row[1] == name} for name in ('test_first', 'test_second')}
    assert [len(of) for of in processes.values()] == [1, 1]
    assert not set.intersection(*processes.values())
    assert len({row[3] for row in two[1]}) == 1


def test_what_a_file_begins_it_ends(two):
    words = [row[0] for row in two[1]]
    assert words == ['begin', 'pass', 'pass', 'large', 'end'] + ['begin', 'pass', 'pass', 'large', 'end']


@pytest.mark.parametrize(
    'word', ['1 failed, 7 passed, 1 skipped', 'a word of its own', 'for a reason', 'UserWarning: a word of warning']
)
def test_the_reports_are_those_of_pytest(two, word):
    assert two[0].count(word) == 1 + (word == 'a word of its own')  # Where it failed, and in the summary


def test_the_largest_process_is_told(two):
    assert 'it: 1000000 MB at most, reached in test_first.py::test_large' in two[0]


def test_a_process_that_dies_fails_one_test_and_the_rest_of_its_file_runs(tmp_path):
    said, told = run(tmp_path, '-n', '1', dies=DIES)
    assert '1 failed, 5 passed' in said
    assert 'the process of test_dies.py ended in this test with exit code -9' in said
    processes = {word: process for word, _, process, _ in told}
    assert processes['before'] != processes['after'] and processes['after'] == processes['end']


def test_a_child_of_a_process_that_dies_is_not_waited_for(tmp_path):
    assert '1 failed, 1 passed' in run(tmp_path, '-n', '1', leaves=LEAVES)[0]


def test_a_process_that_ends_with_an_error_after_its_last_test_is_one(tmp_path):
    late = FIRST + """
def test_last():
    from multiprocessing import util
    util.Finalize(None, os._exit, args=(3,), exitpriority=1)
"""
    said = run(tmp_path, '-n', '1', late=late)[0]
    assert '4 passed, ' in said and '1 error' in said
    assert 'the process of test_late.py ended after this test with exit code 3' in said


def test_after_the_first_failure_nothing_runs(tmp_path):
    told = run(tmp_path, '-n', '1', '-x', second=SECOND + '\ndef test_too_late():\n    tell("late")\n')[1]
    assert [row[0] for row in told] == ['begin', 'pass', 'pass', 'large', 'end']


def test_without_workers_nothing_is_forked(tmp_path):
    told = run(tmp_path, first=FIRST, third=FIRST)[1]
    assert len({row[2] for row in told}) == 1
