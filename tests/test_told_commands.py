"Every `imbal-al` command and every make target that the texts tell exists, with these options"

import re, shlex
from pathlib import Path

import pytest
import typer

root = Path(__file__).resolve().parent.parent
if not (root / 'README.md').exists() or not (root / 'nbs').exists():
    pytest.skip('no checkout here: README.md and nbs hold the commands', allow_module_level=True)


def texts():
    "(where, text) of all that is told: Markdown files and the Markdown cells of notebooks"
    from fastcore.nbio import read_nb

    for p in (*root.glob('*.md'), root / 'data/README.md'):
        yield p.name, p.read_text()
    for p in sorted((root / 'nbs').rglob('[!_.]*.ipynb')):
        if '.ipynb_checkpoints' not in p.parts:
            yield p.name, '\n'.join(c.source for c in read_nb(p).cells if c.cell_type == 'markdown')


LINE, WORDS = r'^\s*(?:[$] |srun )?(imbal-al [a-z][^\n`]*)$', r'`(imbal-al [a-z][^`\n]*)`'


def commands(text, how):
    "What begins with imbal-al on a line of its own (LINE) or within a sentence (WORDS), without comments"
    return [re.split(r'\s+#|\s*&&|\s*\||\s*>\s', o)[0].strip() for o in re.findall(how, text, re.M)]


TOLD = sorted({(c, w, how) for w, t in texts() for how in (LINE, WORDS) for c in commands(t, how)})


def parse(words, command, name):
    "Follow sub-commands and read the options, without running anything"
    if hasattr(command, 'commands'):
        if words and words[0] in command.commands:
            return parse(words[1:], command.commands[words[0]], words[0])
        assert (
            not words or words[0].startswith('-') or words[0].isupper()
        ), f'no such command: {name} {words[0]}'
    elif words:
        command.make_context(name, list(words))  # a command's bare name is no call


def test_texts_tell_commands():
    assert len(TOLD) > 30 and any('--preset' in c for c, _, _ in TOLD)


@pytest.mark.parametrize(
    'told, how',
    sorted({(c, how) for c, _, how in TOLD}),
    ids=lambda o: '' if o in (LINE, WORDS) else o,
)
def test_command_exists_with_its_options(told, how):
    from imbal_al.cli import app

    words = [o for o in shlex.split(told.replace('...', 'X')) if o != 'COMMAND']
    try:
        parse(words[1:], typer.main.get_command(app), 'imbal-al')
    except Exception as e:
        if how == WORDS and type(e).__name__ == 'MissingParameter':
            return  # a sentence may leave out the folder
        pytest.fail(
            f"{told!r}, told in {', '.join(w for c,w,h in TOLD if c==told)}: {getattr(e,'message',e) or type(e).__name__}"
        )


def test_the_check_sees_a_wrong_option():
    from imbal_al.cli import app

    with pytest.raises(Exception):
        parse(['study', '--no-such-option'], typer.main.get_command(app), 'imbal-al')
    with pytest.raises(AssertionError):
        parse(['studdy'], typer.main.get_command(app), 'imbal-al')


def test_make_targets_exist():
    made = set(re.findall(r'^([a-z]+):', (root / 'Makefile').read_text(), re.M))
    told = {o for _, t in texts() for o in re.findall(r'(?:^|`)make ([a-z]+)(?=[`\s])', t, re.M)}
    assert {'study', 'test', 'docs', 'readme'} <= told and not told - made, told - made
