"The site's builder and its check, on pages made by hand and one notebook"

import importlib.util
from pathlib import Path

import pytest

pytest.importorskip('smalldocs', reason='the site needs smalldocs: pip install smalldocs==0.5.4')
root = Path(__file__).resolve().parent.parent
if not (root / '.ci/docs.py').exists():
    pytest.skip('no checkout here: .ci/docs.py builds the site', allow_module_level=True)


@pytest.fixture(scope='module')
def docs():
    spec = importlib.util.spec_from_file_location('docs', root / '.ci/docs.py')
    m = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(m)
    return m


def page(at, name, body, head='<title>t</title>'):
    (at / name).parent.mkdir(parents=True, exist_ok=True)
    (at / name).write_text(f'<html><head>{head}</head><body>{body}</body></html>')


def test_a_sound_site_has_no_problem(docs, tmp_path):
    page(
        tmp_path,
        'index.html',
        '<h1 id="top">a</h1><a href="#top">1</a><a href="sub/">2</a><a href="sub/b.html#x">3</a><a href="https://example.org">4</a><img src="p.png" alt="p">',
    )
    (tmp_path / 'p.png').touch()
    page(tmp_path, 'sub/index.html', '')
    page(tmp_path, 'sub/b.html', '<p id="x"><a href="../index.html">up</a></p>')
    assert list(docs.problems(tmp_path)) == []


def test_only_the_page_for_lost_addresses_begins_at_the_root(docs, tmp_path):
    page(tmp_path, 'index.html', '')
    page(tmp_path, '404.html', '<a href="/index.html">1</a><a href="/gone.html">2</a>')
    assert list(docs.problems(tmp_path)) == ['404.html: broken link /gone.html']
    page(tmp_path, 'index.html', '<a href="/404.html">')
    assert 'index.html: broken link /404.html' in list(docs.problems(tmp_path))


@pytest.mark.parametrize(
    'body, said',
    [
        ('<a href="gone.html">', 'broken link gone.html'),
        ('<a href="#nowhere">', 'no such place #nowhere'),
        ('<img src="p.png" alt="p">', 'broken link p.png'),
        ('<a href="b.html#no">', 'no such place b.html#no'),
        ('<script src="https://example.org/x.js"></script>', 'from elsewhere'),
        ('<img src="data:," alt=" ">', 'without a description'),
    ],
)
def test_each_problem_is_named(docs, tmp_path, body, said):
    page(tmp_path, 'index.html', body)
    page(tmp_path, 'b.html', '')
    assert [said in o for o in docs.problems(tmp_path)] == [True]


def test_missing_title_stylesheet_from_elsewhere_and_empty_site(docs, tmp_path):
    assert 'holds no page' in next(docs.problems(tmp_path))
    page(tmp_path, 'index.html', '', head='')
    (tmp_path / 'a.css').write_text('@import url("https://example.org/a.css");')
    found = list(docs.problems(tmp_path))
    assert len(found) == 2 and 'a.css: loads' in found[0] and found[1] == 'index.html: no title'


def test_links_lead_home(docs):
    cfg = docs.get_config()
    there = f'{cfg.doc_host}{cfg.doc_baseurl.rstrip("/")}'
    assert docs.links_home(f'[a]({there}/measure.oii.html#iou)') == '[a](/measure.oii.html#iou)'
    assert (
        docs.links_home(
            '[a](../90_study_active_learning.ipynb) [b](tutorials/1_first_study.ipynb#x)'
        )
        == '[a](../study_active_learning.ipynb) [b](tutorials/first_study.ipynb#x)'
    )
    assert docs.links_home('[`_private`](/x.html#_private)') == '`_private`'
    there = '[`oii`](/measure.oii.html#oii)'
    assert docs.links_home(there) == there
    assert docs.links_home(there.replace('oii)', 'unknown)')) == '`oii`'
    assert (
        docs.links_home('[a](https://example.org/70_x.ipynb)')
        == '[a](https://example.org/70_x.ipynb)'
    )
    assert (
        docs.links_home(
            '![a](../data/results/figures/f.png) [d](../../data/README.md) [c](../CONTRIBUTING.md)'
        )
        == '![a](/data/results/figures/f.png) [d](/data/index.md) [c](/contributing.md)'
    )


def test_a_directive_is_no_prose(docs):
    assert docs.without_directives('#| export: true\n\n## Dice\n\n# not | this') == (
        '\n## Dice\n\n# not | this'
    )
    assert docs.without_directives('#| export\nLosses.') == 'Losses.'


def test_no_option_is_broken_at_its_hyphens(docs):
    "In code and in what a program printed; prose, scripts and styles stay as they are"
    assert docs.whole_options('<p><code>--held-out</code> --x</p>') == (
        '<p><code><span class="option">--held-out</span></code> --x</p>'
    )
    printed = '<pre>$ imbal-al next --budget 25\na--b --</pre>'
    assert docs.whole_options(printed) == (
        '<pre>$ imbal-al next <span class="option">--budget</span> 25\na--b --</pre>'
    )
    style = '<style>a { color: var(--x); --y: 1 }</style>'
    assert docs.whole_options(style) == style


def test_pictures_get_the_prose_above_them(docs):
    from fastcore.nbio import dict2nb

    png = [dict(output_type='display_data', data={'image/png': ''}, metadata={})]
    nb = dict2nb(
        dict(
            cells=[
                dict(
                    cell_type='markdown',
                    source='## A `title`\n\nFirst of *all*. Then [this](x). Not this.\n\n```\ncode\n```',
                    metadata={},
                ),
                dict(cell_type='code', source='plot()', outputs=png, metadata={}),
                dict(cell_type='code', source='#| fig-alt: own\nplot()', outputs=png, metadata={}),
                dict(cell_type='code', source='1', outputs=[], metadata={}),
            ],
            metadata={},
            nbformat=4,
            nbformat_minor=5,
        )
    )
    docs.add_alts(nb)
    assert [c.source.split('\n')[0] for c in nb.cells[1:]] == [
        '#| fig-alt: "Figure, A title. First of all. Then this."',
        '#| fig-alt: own',
        '1',
    ]


def test_each_line_of_the_source_has_its_place(docs, tmp_path):
    (tmp_path / 'm.py').write_text('def f():\n    """Two\n    lines < here"""\n    return 1\n')
    text = docs.source_page(tmp_path / 'm.py')
    for n in range(1, 5):
        assert f'id="L{n}"' in text
    assert '&lt; here' in text and text.count('<span') == text.count('</span>')


def test_a_notebook_is_documented_from_its_module_without_running(docs, tmp_path):
    import json, unittest.mock as mock

    with mock.patch(
        'execnb.shell.CaptureShell.run_cell', side_effect=AssertionError('a cell was run')
    ):
        docs.notebook(root / 'nbs/20_measure.oii.ipynb', tmp_path / 'oii.ipynb')
    told = [
        o['data']['text/markdown']
        for c in json.loads((tmp_path / 'oii.ipynb').read_text())['cells']
        for o in c.get('outputs', [])
        if 'text/markdown' in o.get('data', {})
    ]
    told = [''.join(o) for o in told]
    one = next(o for o in told if '### oii' in o)
    assert (
        'Output imbalance index' in one
        and '(/source/measure.oii.md#L' in one
        and '| fp | false positives |' in one
        and 'oii(tp, fp, fn)' in one
    )


def test_without_npm_formulas_stay_as_typed_and_no_link_is_left(
    docs, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv('PATH', str(tmp_path))
    assert docs.get_katex(tmp_path / 'katex') is None
    assert 'formulas stay as they are typed' in capsys.readouterr().out
    page(
        tmp_path,
        'index.html',
        '<p>$x$</p>',
        head='<title>t</title><link rel="stylesheet" href="/KATEX/katex.min.css"><script src="/KATEX/katex.min.js" defer></script><script src="a.js"></script>',
    )
    text = docs.without_katex((tmp_path / 'index.html').read_text())
    assert 'KATEX' not in text and '<script src="a.js">' in text and '$x$' in text


def test_cells_hold_imports_or_code_never_both(docs):
    "A documentation build runs every cell that imports something and no other, so a mixed cell fails there"
    import ast
    from fastcore.nbio import read_nb

    imports, cfg = (ast.Import, ast.ImportFrom), docs.get_config()

    def mixed(source):
        try:
            body = ast.parse(source).body
        except SyntaxError:
            return False  # magics
        return any(isinstance(o, imports) for b in body for o in ast.walk(b)) and not all(
            isinstance(o, imports) for o in body
        )

    assert (
        mixed('import a\na.b()')
        and mixed('def f(): import a')
        and not mixed('import a\nfrom b import c')
        and not mixed('f()')
    )
    found = [
        f'{p.name}: {c.source[:60]!r}'
        for p in docs.nbglob(cfg.nbs_path, as_path=True)
        for c in read_nb(p).cells
        if c.cell_type == 'code' and not c.source.startswith('#| export') and mixed(c.source)
    ]
    assert not found, found


def test_the_menu_holds_every_page_once(docs):
    cfg = docs.get_config()
    pages = sorted(docs.nbglob(cfg.nbs_path, as_path=True))
    menu = docs.sidebar(cfg, pages)['website']['sidebar']['contents']
    listed = [o for part in menu for o in (part['contents'] if isinstance(part, dict) else [part])]
    assert sorted(listed) == sorted(
        [
            *(
                str(docs.nbpath2html(p.relative_to(cfg.nbs_path)).with_suffix('.ipynb'))
                for p in pages
            ),
            'api.md',
        ]
    )


def test_a_new_study_finds_its_place_in_the_menu(docs):
    cfg = docs.get_config()
    pages = sorted([*docs.nbglob(cfg.nbs_path, as_path=True), cfg.nbs_path / '99_study_new.ipynb'])
    assert 'study_new.ipynb' in next(
        o['contents']
        for o in docs.sidebar(cfg, pages)['website']['sidebar']['contents']
        if isinstance(o, dict) and o['section'] == 'Studies'
    )


def test_the_menu_goes_by_what_a_reader_looks_for(docs):
    cfg = docs.get_config()
    pages = sorted(docs.nbglob(cfg.nbs_path, as_path=True))
    parts = {
        o['section']: o['contents']
        for o in docs.sidebar(cfg, pages)['website']['sidebar']['contents']
        if isinstance(o, dict)
    }
    assert {'project.store.ipynb', 'project.rounds.ipynb', 'project.costs.ipynb'} <= set(
        parts['Your own images']
    )
    assert {'runs.lock.ipynb', 'runs.engine.ipynb', 'run_folders.ipynb'} <= set(
        parts['Running studies']
    )
    assert {'dev/dev.bench.ipynb', 'dev/dev.campaign.ipynb'} <= set(parts['The workshop'])
    assert 'More' not in parts and set(docs.WINGS.values()) <= set(parts)


def test_saved_outputs_hold_no_warning_and_no_path_of_one_machine(docs):
    import re
    from fastcore.nbio import read_nb

    def text(o):
        return ''.join(o.get('text', [])) + ''.join(
            ''.join(v) for k, v in o.get('data', {}).items() if k.startswith('text/')
        )

    odd = re.compile(r'Warning: |<ipython-input|(?<![\w.])/(?:tmp|root|home|work)/')
    below = '/'.join(['tmp', 'x'])  # no path of a machine stands in this file
    assert odd.search(f'see /{below}') and odd.search('FutureWarning: old')
    assert not odd.search(f'runs/{below}')
    found = [
        f'{p.name}, cell {i}: {o["name"] if o.get("name")=="stderr" else odd.search(text(o))[0]}'
        for p in docs.nbglob(docs.get_config().nbs_path, as_path=True)
        for i, c in enumerate(read_nb(p).cells)
        for o in c.get('outputs', [])
        if o.get('name') == 'stderr' or odd.search(text(o))
    ]
    assert not found, f'{found}; `make tidy` removes error streams'


def test_every_notebook_names_its_kernel(docs):
    "Else JupyterLab asks whoever opens it"
    from fastcore.nbio import read_nb

    lack = [
        p.name
        for p in docs.nbglob(docs.get_config().nbs_path, as_path=True)
        if read_nb(p).metadata.get('kernelspec', {}).get('name') != 'python3'
    ]
    assert not lack, f'{lack}; `make tidy` names it'


def test_tidying_removes_error_streams_only():
    from fastcore.nbio import dict2nb

    spec = importlib.util.spec_from_file_location('tidy', root / '.ci/tidy.py')
    m = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(m)
    said = lambda name: dict(output_type='stream', name=name, text=['x'])
    nb = dict2nb(
        dict(
            cells=[
                dict(
                    cell_type='code',
                    source='f()',
                    outputs=[said('stdout'), said('stderr')],
                    metadata={},
                ),
                dict(cell_type='markdown', source='a', metadata={}),
            ],
            metadata=dict(jupytext={}),
            nbformat=4,
            nbformat_minor=5,
        )
    )
    assert (
        m.tidy(nb)
        and [o.name for o in nb.cells[0].outputs] == ['stdout']
        and list(nb.metadata) == ['kernelspec']
        and not m.tidy(nb)
    )
