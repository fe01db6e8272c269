"The first page and the first minutes: README, make setup, the story, what SECURITY.md promises"

import ast
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
if not (ROOT / 'README.md').exists() or not (ROOT / 'nbs').exists():
    pytest.skip('no checkout here: README.md and the notebooks', allow_module_level=True)


# ---- make setup


@pytest.fixture
def checkout(tmp_path):
    "The files that make setup reads, and an environment whose python writes down what it is asked"
    for name in ('Makefile', 'settings.ini', 'setup.py', 'pyproject.toml'):
        shutil.copy(ROOT / name, tmp_path)
    python = tmp_path / '.venv/bin/python'
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\necho "$@" >>{tmp_path}/asked\n')
    python.chmod(0o755)
    return tmp_path


def setup(at, *args):
    return subprocess.run(['make', 'setup', *args], cwd=at, capture_output=True, text=True)


def asked(at):
    return (at / 'asked').read_text().splitlines() if (at / 'asked').exists() else []


def test_setup_of_the_cpu_build_asks_for_its_address_in_one_line(checkout):
    r = setup(checkout, 'TORCH=cpu')
    first = r.stderr.splitlines()[0]
    assert r.returncode and 'TORCH_INDEX=ADDRESS' in first and 'pytorch.org' in first
    assert not asked(checkout) and not (checkout / '.venv/installed').exists()


def test_setup_takes_pytorch_from_the_address_before_the_rest(checkout):
    r = setup(checkout, 'TORCH=cpu', 'TORCH_INDEX=file:///somewhere/cpu')
    assert r.returncode == 0, r.stderr
    torch, rest = asked(checkout)
    assert torch.endswith('torch torchvision --index-url file:///somewhere/cpu')
    assert rest.endswith('-e .[dev]') and 'index' not in rest


def test_plain_setup_names_no_index(checkout):
    assert setup(checkout).returncode == 0
    assert len(asked(checkout)) == 1 and 'index' not in asked(checkout)[0]


# ---- README


README = (ROOT / 'README.md').read_text()


def test_readme_is_short_and_has_no_placeholder():
    assert len(README.splitlines()) <= 120
    for text in ('example.github.io', 'github.com/example', 'colab', 'TODO'):
        assert text not in README.lower(), text


PLACES = ('imbal_al/**/*.py', 'nbs/**/*.ipynb', 'nbs/*.*', 'data/*.md', '*.md', '*.toml', '*.cff')
PLACEHOLDER = re.compile(r'example\.github|github\.com/(example|user|you)\b', re.I)


def test_nothing_links_to_an_address_that_is_made_up():
    paths = [path for place in PLACES for path in ROOT.glob(place) if path.is_file()]
    assert len(paths) > 200
    for path in paths:
        found = PLACEHOLDER.search(path.read_text())
        assert not found, (path.name, found[0])


def test_every_link_of_the_readme_leads_to_a_file():
    links = re.findall(r'\]\((?!https?:)([^)#]+)', README)
    assert len(links) > 15
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_the_first_screen_of_the_readme_shows_the_loop_and_a_number():
    top = '\n'.join(README.splitlines()[:30])
    assert 'figures/loop.png' in top and re.search(r'\*\*0\.\d\d\*\*', top)


def test_no_notebook_has_a_badge_that_leads_nowhere():
    for path in (ROOT / 'nbs').rglob('[!_.]*.ipynb'):
        if '.ipynb_checkpoints' not in path.parts:
            assert 'colab.research' not in path.read_text(), path.name


# ---- words


SPOKEN = ('project/*.py', 'live/*.py', 'runs/workers.py', 'cli/*.py')
MANY = re.compile(
    r'^ (images|files|labels|units|windows|rounds|masks|runs|trainings|defects|groups|workers|'
    r'threads|seeds|cycles|channels)\b'
)
# Never one, or a condition: by the value that is shown
NEVER_ONE = ('more', 'kind', 'found.groups', 'len(images)', 'math.ceil(3 / prevalence)')


def plurals(tree):
    "(value, what follows) of numbers in texts before a plural, where `counted` does not stand"
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            before = ''
            for value, after in zip(node.values, node.values[1:]):
                if isinstance(value, ast.Constant):
                    before = value.value
                elif isinstance(after, ast.Constant) and MANY.search(after.value):
                    if not before.endswith((' of ', ' of the ')):
                        yield ast.unparse(value.value), after.value


def test_one_is_not_called_many():
    seen = []
    for place in SPOKEN:
        for path in (ROOT / 'imbal_al').glob(place):
            seen += [(path.name, *o) for o in plurals(ast.parse(path.read_text()))]
    assert [o for o in seen if o[1] not in NEVER_ONE] == [], 'say counted(n, "file")'
    assert seen and list(plurals(ast.parse("f'{n} files left out'"))) == [('n', ' files left out')]


def test_no_text_leaves_it_open_how_many():
    for path in (ROOT / 'imbal_al').rglob('*.py'):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert not re.search(r'[a-z]\(e?s\)(?!\w)', node.value), (path.name, node.value[:80])


# ---- SECURITY.md


def calls(name):
    "(file, call) of every call of a function of this name in the library"
    for path in sorted((ROOT / 'imbal_al').rglob('*.py')):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == name:
                yield path.name, {o.arg: ast.unparse(o.value) for o in node.keywords}


def test_weights_are_read_as_tensors_only():
    found = list(calls('torch.load'))
    assert len(found) >= 2
    assert [o for o in found if o[1].get('weights_only') != 'True'] == []


def test_arrays_are_read_without_pickle():
    found = list(calls('np.load'))
    assert len(found) >= 2
    assert [o for o in found if o[1].get('allow_pickle', 'False') != 'False'] == []


def test_nothing_is_unpickled():
    for path in (ROOT / 'imbal_al').rglob('*.py'):
        text = path.read_text()
        for name in ('pickle.load', 'load_learner', 'yaml.load(', 'eval('):
            found = re.search(r'(?<![\w.])' + re.escape(name), text)
            assert not found, (path.name, name)
