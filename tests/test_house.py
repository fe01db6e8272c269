"""The walls of the house: what a room may import, and from where

A room is a module with a notebook, a wing is a sub-package. Notebooks are numbered from the ground
up, and wings stand on floors: a room imports lower notebooks of its own wing and of lower floors.
"""

import ast
import json
import re
import subprocess
from collections import Counter
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LIB, NBS = ROOT / 'imbal_al', ROOT / 'nbs'
if not NBS.exists():
    pytest.skip('no checkout here: the walls are those of the notebooks', allow_module_level=True)

FLOORS = [
    {'core', 'text', 'options'},
    {'data', 'measure', 'losses', 'strategies', 'runs'},
    {'networks'},
    {'studies'},
    {'project', 'results'},
    {'live'},
    {'cli'},
    {'dev'},
]
# The command line starts in a moment, so each command loads what it needs when it is given
COMMANDS = {'project.commands', 'live.commands'}
# Other rooms that import inside functions: what, and why it may not stand at the top
LATE = {
    ('core', 'torch'): 'read by every command, also by those that need no torch',
    ('runs.workers', 'torch'): 'a driver of worker processes needs none itself',
    ('runs.collect', 'pyarrow'): 'one of two forms of one table',
    ('data.masks', 'scipy'): 'a second, for one form of mask',
    ('data.public_sets', 'scipy'): 'a second, for the masks of one data set',
    ('measure.statistics', 'scipy'): 'a second, and reports read the constants of this room',
    ('measure.sampling', 'scipy'): "a project's status reads this room and draws no quantile",
    ('measure.parts', 'scipy'): "a project's status reads a rule and labels no mask",
    ('measure.oii', 'torch'): 'the index takes plain numbers as well',
    ('measure.oii', 'fastai'): 'only the recorder of a training is a callback',
    ('losses.guidance', 'matplotlib'): 'one figure; the search takes numbers only',
    ('strategies.diversity', 'imbal_al'): 'torch is there where a tensor is',
    ('networks.models', 'segmentation_models_pytorch'): 'seconds, for those who make a network',
    ('networks.models', 'torchvision'): 'seconds, for one of the encoders',
    ('networks.predict', 'torch'): 'an exported file is applied without torch',
    ('networks.predict', 'imbal_al'): 'an exported file is applied without torch',
    ('studies.run_config', 'imbal_al'): 'a plan is made without torch',
    ('studies.learning_study', 'imbal_al'): 'a plan is made without torch',
    ('studies.loss_config', 'imbal_al'): 'a plan is made without torch',
    ('studies.loss_study', 'imbal_al'): 'a plan is made without torch',
    ('studies.loss_training', 'imbal_al'): 'a plan is made without torch',
    ('project.changes', 'imbal_al'): 'settings that need no network are changed without torch',
    ('project.heldout_records', 'imbal_al'): 'what is kept is told without torch',
    ('project.reference', 'imbal_al'): 'days are compared without torch where all records are kept',
    ('project.queue', 'matplotlib'): 'its font, for one sheet; rounds that train need none',
    ('project.standing', 'matplotlib'): 'one figure; the numbers are told without',
    ('project.watch', 'matplotlib'): 'one figure; the findings are told without',
    ('project.card', 'huggingface_hub'): 'only where a model is published',
    ('results.gallery', 'IPython'): 'only in a notebook',
    ('results.gallery', 'ipywidgets'): 'only in a notebook',
    ('dev.rehearsal', 'matplotlib'): 'one figure; loops are played without',
    ('dev.bench', 'skactiveml'): 'a peer, measured where it is installed',
    ('dev.bench', 'lightly_mundig'): 'a peer, measured where it is installed',
    ('dev.bench', 'torchmetrics'): 'a peer, measured where it is installed',
}

# Imports whose names are not used: what happens on import
FOR_EFFECT = {
    ('data.catalog', 'magnetic_tiles'): 'registers its data set',
    ('data.catalog', 'public_sets'): 'registers its data sets',
    ('dev.campaign', 'segmentation_models_pytorch'): 'loaded once, before the first fork',
    ('strategies.choose', 'diversity'): 'registers its strategies',
    ('strategies.choose', 'scores'): 'registers its strategies',
}

IMPORTS = (ast.Import, ast.ImportFrom)
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)


def dotted(path):
    "The name of a module below `imbal_al`; a face has that of its wing"
    parts = path.relative_to(LIB).with_suffix('').parts
    return '.'.join(part for part in parts if part != '__init__')


@cache
def trees():
    "Module -> what is written in it"
    paths = [path for path in sorted(LIB.rglob('*.py')) if path.name != '_modidx.py']
    return {dotted(path): ast.parse(path.read_text(encoding='utf-8')) for path in paths}


@cache
def rooms():
    "Room -> its notebook, as a path below `nbs`"
    found = {}
    for path in NBS.rglob('*.ipynb'):
        if '.ipynb_checkpoints' in path.parts:
            continue
        name = re.search(r'#\| *default_exp +([\w.]+)', path.read_text(encoding='utf-8'))
        if name:
            found[name[1]] = path.relative_to(NBS)
    return found


def height(room):
    "What the order of notebooks goes by: the workshop's come last"
    path = rooms()[room]
    return path.parent.name, path.name


def wing(module):
    return module.partition('.')[0]


def floor(module):
    return next((i for i, wings in enumerate(FLOORS) if wing(module) in wings), None)


def base_of(module, node):
    "The module of ours that a `from ... import` names; None for another package"
    parts = module.split('.')
    package = parts if (LIB / Path(*parts)).is_dir() else parts[:-1]
    if node.level:
        package = package[: len(package) - node.level + 1]
        return '.'.join([*package, *([node.module] if node.module else [])])
    if (node.module or '').partition('.')[0] == 'imbal_al':
        return node.module.removeprefix('imbal_al').lstrip('.')
    return None


def imported(module, tree):
    "(target, name, bound) of each import of ours: a module, the name taken from it, what it is called here"
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.startswith('imbal_al.'):
                    yield alias.name.removeprefix('imbal_al.'), None, alias.asname
        if isinstance(node, ast.ImportFrom) and (base := base_of(module, node)) is not None:
            for alias in node.names:
                deeper = f'{base}.{alias.name}'.lstrip('.')
                bound = alias.asname or alias.name
                yield (deeper, None, bound) if deeper in trees() else (base, alias.name, bound)


def imports(module):
    "The modules of ours that a module imports, at its top or in a function"
    return {target for target, _, _ in imported(module, trees()[module])} - {'', module}


def goes_up(room, target):
    "Whether an import breaks a wall"
    if wing(room) != wing(target) and not floor(target) < floor(room):
        return not {wing(room), wing(target)} <= FLOORS[0] or height(target) > height(room)
    return target in rooms() and height(target) >= height(room)


def test_each_notebook_has_a_number_of_its_own_and_imports_go_down():
    "A lower notebook imports no higher one, a wing only lower floors; so there is no circle"
    numbered = [p for p in NBS.rglob('[0-9]*_*.ipynb') if '.ipynb_checkpoints' not in p.parts]
    numbers = Counter((p.parent.name, p.name.partition('_')[0]) for p in numbered)
    assert not {number for number, n in numbers.items() if n > 1}
    assert {wing(room) for room in rooms()} == set().union(*FLOORS)
    assert set(trees()) - set(rooms()) == {'', *(wing(room) for room in rooms() if '.' in room)}
    found = [(rooms()[m].name, t) for m in rooms() for t in sorted(imports(m)) if goes_up(m, t)]
    assert not found, f'a lower notebook imports a higher one, or a wing one that is not below: {found}'
    TopologicalSorter({m: imports(m) for m in trees()}).prepare()


def test_a_notebook_is_named_after_its_room():
    named = {room: path.stem.partition('_')[2] for room, path in rooms().items()}
    assert {room: name for room, name in named.items() if room != name} == {}
    assert {r for r in rooms() if (wing(r) == 'dev') != (rooms()[r].parent.name == 'dev')} == set()


def test_the_wings_on_the_ground_floor_know_the_base_only():
    for module in trees():
        if floor(module) == 1:
            assert {wing(o) for o in imports(module)} <= {wing(module)} | FLOORS[0], module


def is_private(name):
    return name is not None and name.startswith('_') and not name.endswith('__')


def private_uses(module):
    "(module, name) of what a module takes from others by a private name, by import or as an attribute"
    bound = {}
    for target, name, here in imported(module, trees()[module]):
        if is_private(name) and target != module:
            yield target, name
        if name is None and here:
            bound[here] = target
    for node in ast.walk(trees()[module]):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if node.value.id in bound and is_private(node.attr):
                yield bound[node.value.id], node.attr


def test_no_room_uses_a_private_name_of_another():
    "Such a name loses its underscore, or the need for it goes"
    found = [(m, *use) for m in trees() for use in private_uses(m)]
    assert not found, found


def in_functions(tree):
    "Imports inside functions, but those that ask whether a package is installed"
    asked = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Try) and any(is_missing(h.type) for h in node.handlers):
            asked |= {id(o) for part in node.body for o in ast.walk(part)}
    inner = {id(o): o for f in ast.walk(tree) if isinstance(f, FUNCTIONS) for o in ast.walk(f)}
    return [o for i, o in inner.items() if isinstance(o, IMPORTS) and i not in asked]


def is_missing(kind):
    "Whether an `except` is for a package that is not there"
    names = [kind] if isinstance(kind, ast.Name) else getattr(kind, 'elts', [])
    return any(getattr(o, 'id', '') in ('ImportError', 'ModuleNotFoundError') for o in names)


def packages(node):
    "What an import loads: packages of others by their first name, ours by theirs"
    if isinstance(node, ast.Import):
        return {alias.name.partition('.')[0] for alias in node.names}
    return {'imbal_al' if node.level else node.module.partition('.')[0]}


def test_only_commands_import_inside_functions():
    "Elsewhere an import stands at the top, or the room is divided; what may not is in LATE, with a reason"
    found = {
        (m, package)
        for m, tree in trees().items()
        for node in in_functions(tree)
        for package in packages(node)
        if m not in COMMANDS and wing(m) != 'cli'
    }
    assert not found - set(LATE), sorted(found - set(LATE))
    assert not set(LATE) - found, f'not needed any more: {sorted(set(LATE) - found)}'


def subtitle(path):
    "What a notebook says that it is about"
    cells = json.loads(path.read_text(encoding='utf-8'))['cells']
    text = '\n'.join(''.join(c['source']) for c in cells if c['cell_type'] == 'markdown')
    return re.search(r'^> *(.+)', text, re.M)[1].replace('`', '')


def unused(tree):
    "Names that are imported and do not occur in the code"
    bound = [
        alias.asname or alias.name.partition('.')[0]
        for node in ast.walk(tree)
        if isinstance(node, IMPORTS) and getattr(node, 'module', '') != '__future__'
        for alias in node.names
    ]
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    return {name for name in bound if name not in used}


def test_what_is_imported_is_used():
    "In every room; an import for its effect says which"
    found = {(room, name) for room in rooms() for name in unused(trees()[room])}
    assert found == set(FOR_EFFECT)


def test_an_unused_import_is_seen():
    tree = ast.parse('from __future__ import annotations\nimport io, os.path, a as b\nb(os)\ndef f(): from c import d')
    assert unused(tree) == {'io', 'd'}


def test_the_code_map_lists_every_notebook_in_reading_order():
    "A room that was added, or has another subtitle, stands in the saved page, too"
    cells = json.loads((NBS / 'map.ipynb').read_text(encoding='utf-8'))['cells']
    shown = [o['data'] for c in cells for o in c.get('outputs', []) if 'data' in o]
    text = '\n'.join(''.join(data.get('text/markdown', '')) for data in shown)
    found = re.findall(r'^\| \[(.+?)\]\((.+?)\) \| (.+) \|$', text, re.M)
    paths = [*sorted(NBS.glob('[0-9]*.ipynb')), *sorted(NBS.glob('dev/[0-9]*.ipynb'))]
    whole = [(p.stem, p.relative_to(NBS).as_posix(), subtitle(p)) for p in paths]
    assert found == whole, '`make readme` makes nbs/map.ipynb anew'


def module_of(text):
    return ast.parse(text)


def test_the_walls_are_seen():
    "The checks above find what they look for"
    names = list(imported('measure.oii', module_of('from .metrics import _a\nfrom .. import core')))
    assert names == [('measure.metrics', '_a', '_a'), ('core', None, 'core')]
    names = list(imported('cli.study', module_of('from imbal_al.runs import plan as p\nimport numpy')))
    assert names == [('runs.plan', None, 'p')]
    assert goes_up('measure.oii', 'data.images') and goes_up('results.tables', 'project.store')
    assert goes_up('core', 'text') and not goes_up('text', 'core')
    assert goes_up('runs.lock', 'runs.plan') and not goes_up('runs.plan', 'runs.lock')
    assert goes_up('cli.study', 'dev.bench') and not goes_up('dev.bench', 'cli')
    late = 'def f():\n    import a\n    try: import b\n    except ImportError: pass\n    from .c import d'
    assert [packages(o) for o in in_functions(module_of(late))] == [{'a'}, {'imbal_al'}]


# ---- what is made stays out of git


MADE = ('.venv', '_docs', '_proc', 'runs', 'build', 'dist')


def tracked():
    "What git holds of what is made here"
    told = subprocess.run(['git', 'ls-files', *MADE], cwd=ROOT, capture_output=True, text=True)
    return told.stdout.split()


def test_what_is_made_is_not_tracked():
    "A link named .venv, once pushed, takes the place of the environment where it arrives"
    names = {path.split('/')[0] for path in tracked()}
    assert not names, f'git rm -r -q --cached {" ".join(names)}, then commit and land again'


def test_no_example_leaves_a_folder_named_after_an_object():
    "str() of what is no path makes one, `<_io.StringIO object at ...>`"
    assert not [str(path) for path in NBS.rglob('*') if '<' in path.name]
