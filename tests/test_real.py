"That nothing is skipped without a word where CI runs: a skipped test fails it, but for the reasons allowed"

import os, subprocess, sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
TESTS = '''
import pytest

def test_good():
    pass

@pytest.mark.skipif(True, reason='needs a GPU')
def test_for_a_gpu():
    assert False

{more}
'''
SKIPS = {
    'by a mark': "@pytest.mark.skip(reason='no server')\ndef test_server():\n    pass",
    'by a call': "def test_server():\n    pytest.skip('no server')",
    'by a module': "pytest.importorskip('a_module_of_no_one', reason='no server')",
}


def run(folder, more, *options, **env):
    (folder / 'test_some.py').write_text(TESTS.format(more=more))
    return subprocess.run(
        [sys.executable, '-m', 'pytest', '-p', 'conftest', '-p', 'no:cacheprovider', '-p', 'no:hypothesispytest', *options],
        cwd=folder,
        env={**os.environ, 'PYTHONPATH': str(HERE), 'IMBAL_AL_NO_SKIP': '', **env},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize('how,cores', [*[(how, '0') for how in SKIPS], ('by a call', '2')])
def test_a_skip_fails_where_none_may_be(tmp_path, how, cores):
    done = run(tmp_path, SKIPS[how], '-n', cores, IMBAL_AL_NO_SKIP='1')
    assert done.returncode == 1 and 'FAILED, for nothing may be skipped here' in done.stdout
    assert 'no server' in done.stdout.split('FAILED')[1]


def test_skips_elsewhere_and_for_a_gpu_are_let_pass(tmp_path):
    assert run(tmp_path, SKIPS['by a call']).returncode == 0
    assert run(tmp_path, '', IMBAL_AL_NO_SKIP='1').returncode == 0


def test_a_missing_program_says_what_to_do(tmp_path):
    body = "import real\ndef test_tool():\n    real.tool('label-studio')"
    done = run(tmp_path, body, '-rs', IMBAL_AL_TOOLS=str(tmp_path))
    assert done.returncode == 0 and '`make tools` installs Label Studio' in done.stdout
