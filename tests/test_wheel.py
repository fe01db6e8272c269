"The wheel: what is in it, what is not, and that its command starts"

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytest.importorskip('setuptools', reason='a wheel is built by setuptools: pip install setuptools')
ROOT = Path(__file__).resolve().parent.parent
if not (ROOT / 'setup.py').exists():
    pytest.skip('no checkout here: a wheel is built from one', allow_module_level=True)
PIP = [sys.executable, '-m', 'pip', '--disable-pip-version-check', '-q']
FILES = 'setup.py settings.ini pyproject.toml MANIFEST.in README.md LICENSE'.split()


def run(*command, **env):
    told = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **env})
    assert told.returncode == 0, told.stdout + told.stderr
    return told.stdout


@pytest.fixture(scope='module')
def wheel(tmp_path_factory):
    "Built from a copy, so that nothing is left here"
    at = tmp_path_factory.mktemp('wheel')
    copy = at / 'copy'
    shutil.copytree(ROOT / 'imbal_al', copy / 'imbal_al')
    for name in FILES:
        shutil.copy(ROOT / name, copy)
    run(*PIP, 'wheel', '--no-deps', '--no-build-isolation', '-w', str(at), str(copy))
    (made,) = at.glob('*.whl')
    return made


@pytest.mark.slow
def test_the_wheel_holds_the_library_its_command_and_its_licence(wheel):
    with zipfile.ZipFile(wheel) as z:
        names = z.namelist()
        entry = z.read(next(o for o in names if o.endswith('entry_points.txt'))).decode()
        about = z.read(next(o for o in names if o.endswith('METADATA'))).decode()
    here = {str(o.relative_to(ROOT)) for o in (ROOT / 'imbal_al').rglob('*.py')}
    dev = {o for o in here if o.startswith('imbal_al/dev/')}
    assert dev and {o for o in names if o.endswith('.py')} == here - dev
    assert {o.split('/')[0].split('-')[0] for o in names} == {'imbal_al'}
    assert 'imbal-al = imbal_al.cli:main' in entry
    assert any(o.endswith('LICENSE') for o in names)
    assert 'Requires-Dist: torch>=' in about and 'extra == "dev"' in about
    assert 'example.github' not in about and 'github.com/example' not in about


@pytest.mark.slow
def test_its_command_starts(wheel, tmp_path):
    run(*PIP, 'install', '--no-deps', '--target', str(tmp_path / 'lib'), str(wheel))
    told = run(tmp_path / 'lib/bin/imbal-al', '--help', PYTHONPATH=str(tmp_path / 'lib'))
    assert 'project' in told and 'predict' in told


def test_every_requirement_has_an_oldest_version():
    "So that `make oldest` knows what to install"
    import importlib.util
    from configparser import ConfigParser

    top = Path(__file__).parent.parent
    found = importlib.util.spec_from_file_location('oldest', top / '.ci/oldest.py')
    oldest = importlib.util.module_from_spec(found)
    found.loader.exec_module(oldest)
    settings = ConfigParser(delimiters=['='])
    settings.read(top / 'settings.ini')
    pins = oldest.pins(settings['DEFAULT']['requirements'])
    assert [pin for pin in pins if pin.count('==') != 1 or '>' in pin] == [] and 'numpy==1.26' in pins
    light = oldest.light(pins)
    assert {'numpy==1.26', 'pandas==2.1.1', 'pytz'} <= set(light)
    named = {pin.split('==')[0] for pin in pins}
    assert named - {pin.split('==')[0] for pin in light} == oldest.HEAVY
