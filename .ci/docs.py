"""Build the site from the notebooks into `_docs`, without Quarto and complete offline

    python .ci/docs.py            build it
    python .ci/docs.py check      look for broken links and the like
    python .ci/docs.py figures    draw the front page's figures
"""

import ast, inspect, json, os, re, shutil, subprocess, sys
from functools import lru_cache
from html.parser import HTMLParser
from importlib import import_module
from pathlib import Path
from urllib.parse import unquote, urlsplit

import nbdev.processors as procs, smalldocs.layout, yaml
from fastcore.docments import DocmentTbl, docments
from fastcore.nbio import read_nb, write_nb
from nbdev.config import get_config, nbpath2html
from nbdev.doclinks import nbglob
from nbdev.process import Processor
from nbdev.quarto import refresh_quarto_yml
from smalldocs.site import build as render

KATEX = '0.16.11'
WINGS = {
    'base': 'Foundations',
    'data': 'Images and pools',
    'measure': 'Measuring',
    'losses': 'Losses',
    'strategies': 'Choosing what to label',
    'networks': 'Networks',
    'runs': 'Running studies',
    'studies': 'What a study runs',
    'results': 'Results',
    'project': 'Your own images',
    'live': 'The loop, live',
    'cli': 'Command line',
    'dev': 'The workshop',
}
IN_MENU = {'run_folders': 'runs'}  # notebooks without a wing in their name

# ---- notebooks


def signature(o, name):
    "Name, arguments and their defaults, in a line"
    try:
        ps = [p for p in inspect.signature(o).parameters.values()]
    except (TypeError, ValueError):
        return name
    given = lambda p: (
        ''
        if p.default is p.empty
        else '='
        + (
            str(p.default.__name__)
            if callable(p.default) and hasattr(p.default, '__name__')
            else repr(p.default)
        )
    )
    star = {inspect.Parameter.VAR_POSITIONAL: '*', inspect.Parameter.VAR_KEYWORD: '**'}
    return f"{name}({', '.join(star.get(p.kind,'')+p.name+given(p) for p in ps)})"


def document(o, name, module, line):
    "A public name as Markdown: its source, signature, what it does, a table of its arguments and what it returns"
    out = [
        f'[source](/source/{module}.md#L{line}){{.source-link}}' if line else '',
        f'### {name}',
        f'```python\n{signature(o, name)}\n```',
        inspect.getdoc(o) if getattr(o, '__doc__', None) else '',
    ]
    try:
        table = DocmentTbl(o)._repr_markdown_()
    except Exception:
        table = ''
    back = (
        next((v for k, v in docments(o).items() if k == 'return'), None)
        if callable(o) and not isinstance(o, type)
        else None
    )
    return '\n\n'.join(
        k
        for k in (
            *out,
            table,
            f'Returns {back}.' if isinstance(back, str) and back not in table else '',
        )
        if k
    )


class docs_from_module(Processor):
    "Document what a notebook exports from the module as installed; no cell is run"

    def begin(self):
        name = next(
            (
                v
                for c in self.nb.cells
                if c.cell_type == 'code' and (v := c.directives_.get('default_exp'))
            ),
            None,
        )
        self.module = import_module(f'{get_config().lib_path.name}.{name}') if name else None
        self.lines = (
            {
                n: line
                for n, line, _ in public(
                    get_config().lib_path / f"{name.replace('.','/')}.py", True
                )
            }
            if name
            else {}
        )

    def cell(self, cell):
        if not self.module or not procs._is_showdoc(cell):
            return
        name = re.search(r'show_doc\(([\w.]+)', cell.source)[1]
        o = self.module
        for k in name.split('.'):
            o = getattr(o, k)
        text = document(o, name, self.module.__name__.partition('.')[2], self.lines.get(name))
        cell['outputs'] = [
            dict(output_type='display_data', data={'text/markdown': text}, metadata={})
        ]


class Filters(procs.FilterDefaults):
    def base_procs(self):
        return [docs_from_module if o is procs.exec_show_docs else o for o in super().base_procs()]


def plain(text):
    "The first two sentences of a piece of Markdown, without its marks"
    text = re.sub(r'!?\[([^]]*)\]\([^)]*\)|[*`$#>|]', lambda m: m[1] or '', ' '.join(text.split()))
    return ' '.join(re.split(r'(?<=[.:!?])\s+(?=[A-Z])', text)[:2])[:300]


def add_alts(nb):
    "A description for every picture: its cell's `fig-alt`, else the section and the prose above it"
    head = prose = ''
    for c in nb.cells:
        if c.cell_type == 'markdown':
            if hs := re.findall(r'^#{1,4} +(.+)$', c.source, re.M):
                head, prose = plain(hs[-1]), ''
            ps = [
                o
                for o in re.split(r'\n\s*\n', re.sub(r'(?s)```.*?```', '', c.source))
                if o.strip() and not o.lstrip().startswith(('#', '|', '-'))
            ]
            if ps:
                prose = plain(ps[-1])
        elif (
            c.cell_type == 'code'
            and 'fig-alt' not in c.source
            and any(k.startswith('image/') for o in c.get('outputs', []) for k in o.get('data', {}))
        ):
            alt = json.dumps(f'Figure, {head}. {prose}'.strip(), ensure_ascii=False)
            c.source = f'#| fig-alt: {alt}\n{c.source}'


def fold_code(nb):
    "A study is read for its results: its code is there, folded"
    for c in nb.cells:
        if (
            c.cell_type == 'code'
            and c.source.strip()
            and 'code-fold' not in c.source
            and 'echo: false' not in c.source
        ):
            c.source = f'#| code-fold: true\n{c.source}'


def shown_only(link):
    "A link to a name, without the link where its page does not show the name"
    module = link[2].rpartition('/')[2]
    path = get_config().lib_path / f'{module.replace(".", "/")}.py'
    names = {name for name, *_ in public(path)} if path.exists() else {link[3]}
    return link[0] if link[3].partition('.')[0] in names else link[1]


def links_home(text):
    "Links into our own site and repository as links inside the site"
    cfg = get_config()
    site = re.escape(cfg.doc_host + cfg.doc_baseurl.rstrip('/') + '/')
    text = re.sub(r'\]\(' + site + r'([\w./-]+?\.html)(?:\.md)?', rf'](/\1', text)
    text = re.sub(r'\[(`_\w+`)\]\([^)]*\)', r'\1', text)
    text = re.sub(r'\[(`[\w.]+`)\]\(/([\w./-]+)\.html#([\w.]+)\)', shown_only, text)
    text = re.sub(
        r'\]\((?!\w+:)([\w./-]+\.ipynb)',
        lambda m: f'](' + str(nbpath2html(m[1]).with_suffix('.ipynb')),
        text,
    )
    text = re.sub(r'\]\((?:\.\./)+data/README\.md', '](/data/index.md', text)
    text = re.sub(
        r'\]\((?:\.\./)+(CONTRIBUTING|CHANGELOG|SECURITY)\.md', lambda m: f'](/{m[1].lower()}.md', text
    )
    text = re.sub(r'\[([^\]]*)\]\((?:\.\./)+CITATION\.cff\)', r'`\1`', text)
    return re.sub(r'\]\((?:\.\./)+data/(results/figures/[\w./-]+)', r'](/data/\1', text)


def without_directives(text):
    "Prose that is exported, too, without the line that says so"
    return re.sub(r'(?m)^#\| *\w+(:.*)?\n?', '', text)


def notebook(src, dst):
    "Process one notebook"
    nb = read_nb(src)
    Filters()(nb)
    add_alts(nb)
    if '_study_' in src.name:
        fold_code(nb)
    for c in nb.cells:
        if c.cell_type == 'markdown':
            c.source = links_home(without_directives(c.source))
        if c.cell_type == 'raw':
            c.source = re.sub(r'(?m)^output-file:.*\n', '', c.source)
        for o in c.get('outputs', []):
            if 'text/markdown' in (d := o.get('data', {})):
                d['text/markdown'] = links_home(''.join(d['text/markdown']))
    dst.parent.mkdir(parents=True, exist_ok=True)
    write_nb(nb, dst)


def title_of(path):
    return next(
        (
            m[1]
            for c in json.loads(path.read_text())['cells']
            if c['cell_type'] == 'markdown'
            and (m := re.search(r'^# +(.+)$', ''.join(c['source']), re.M))
        ),
        path.stem,
    )


# ---- source and API


@lru_cache
def public(path, private=False):
    "(name, line, first line of its docstring) of what a module exports, or of all that it defines"
    tree = ast.parse(Path(path).read_text())
    names = []
    for o in tree.body:
        if isinstance(o, ast.Assign) and getattr(o.targets[0], 'id', '') == '__all__':
            names = ast.literal_eval(o.value)
    found = {
        o.name: (o.name, o.lineno, (ast.get_docstring(o) or '').split('\n')[0])
        for o in tree.body
        if isinstance(o, (ast.FunctionDef, ast.ClassDef))
    }
    return list(found.values()) if private else [found[n] for n in names if n in found]


def source_page(path):
    "A module's code with a line to link to"
    from smalldocs.highlight import highlight

    lines = highlight(path.read_text(), 'python').split('\n')
    out, is_open = [], ''
    for n, line in enumerate(lines, 1):
        text = is_open + line
        last = re.findall(r'<span class="\w+">|</span>', text)
        is_open = last[-1] if last and last[-1] != '</span>' else ''
        out.append(
            f'<span class="line" id="L{n}" data-n="{n}">{text}{"</span>" if is_open else ""}</span>'
        )
    head = f'---\ntitle: {path.parent.name}/{path.name}\nsearch: false\ntoc: false\n---\n\n'
    code = '<pre class="source"><code>' + ''.join(out) + '</code></pre>'
    return f'{head}```{{=html}}\n{code}\n```\n'


def escape(text):
    return text.replace('|', chr(92) + '|')


def modules(cfg):
    "Dotted name -> path of every module"
    return {dotted(p.relative_to(cfg.lib_path)): p for p in cfg.lib_path.rglob('*.py')}


def dotted(path):
    return '.'.join(path.with_suffix('').parts)


def name_row(module, page, told, found):
    "A name with a link to its description, else to its source, and what it does"
    n, line, doc = found
    here = f'### {n}\\n' in told
    at = f'/{page_name(page)}#{n.lower()}' if here else f'/source/{module}.md#L{line}'
    return f'| [`{n}`]({at}) | {escape(doc)} |'


API_ROWS = '| name | what it does |\n|---|---|'


def api_table(name, path, page, told):
    "The public names of a module, each with a link to its description, else to its source"
    yield f'\n### {name}\n'
    yield f'[{title_of(page)}](/{page_name(page)}) · [source](/source/{name}.md)\n'
    yield API_ROWS
    for found in public(path):
        yield name_row(name, page, told, found)


def face_of(path):
    "Module -> names, as a wing's hand-written face lists them"
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and getattr(node.func, 'id', '') == 'face':
            return {k: v.split() for k, v in ast.literal_eval(node.args[1]).items()}
    return {}


def wing_table(wing, face, cfg, homes, told):
    "What a user types of a wing"
    yield f'\n### From imbal_al.{wing}: {WINGS[wing]}\n'
    yield API_ROWS
    for room_name, names in face.items():
        module = f'{wing}.{room_name}'
        known = {found[0]: found for found in public(cfg.lib_path / wing / f'{room_name}.py', True)}
        for name in names:
            if name in known and module in homes:
                yield name_row(module, homes[module], told(homes[module]), known[name])


def page_name(path):
    return nbpath2html(path).with_suffix('.ipynb').name


def api_page(cfg, homes, work):
    "All public names by module"
    out = [API_HEAD]

    def told(page):
        "A page as it was made"
        return (work / page.relative_to(cfg.nbs_path).parent / page_name(page)).read_text()

    for wing in WINGS:
        path = cfg.lib_path / wing / '__init__.py'
        if path.exists() and (face := face_of(path)):
            out += wing_table(wing, face, cfg, homes, told)
    out.append('\n## Module by module\n')
    found = {name: path for name, path in modules(cfg).items() if name in homes and public(path)}
    for name in sorted(found, key=lambda n: homes[n].name):
        page = homes[name]
        if page.parent == cfg.nbs_path:
            out += api_table(name, found[name], page, told(page))
    return '\n'.join(out) + '\n'


API_HEAD = """---
title: Reference
description: Every public name, with one line on what it does
---

## What you type, wing by wing

Each of these is imported from its wing: `from imbal_al.measure import operating_point`.
"""


# ---- the site


def room(path):
    "The part of the menu that a notebook belongs to: its wing, or what IN_MENU says"
    name = path.stem.partition('_')[2]
    if '_study_' in path.stem:
        return 'Studies'
    wing = name.partition('.')[0] if '.' in name else IN_MENU.get(name, 'base')
    return WINGS.get(wing, 'More')


def sidebar(cfg, pages):
    "By what a reader comes for, then wing by wing"

    def at(path):
        return str(nbpath2html(path.relative_to(cfg.nbs_path)).with_suffix('.ipynb'))

    def folder(name):
        return [at(p) for p in pages if p.parent.name == name]

    wings = {}
    for path in pages:
        if path.parent == cfg.nbs_path and path.stem[:1].isdigit():
            wings.setdefault(room(path), []).append(at(path))
    wings[WINGS['dev']] = folder('dev')
    studies = wings.pop('Studies', [])
    order = [*WINGS.values(), 'More']
    parts = [('Studies', studies), *sorted(wings.items(), key=lambda o: order.index(o[0]))]
    def there(*names):
        return [name for name in names if (cfg.nbs_path / name).exists()]

    contents = there('index.ipynb', 'questions.ipynb', 'first_hour.ipynb', 'howto.ipynb')
    contents += [dict(section='Tutorials', contents=folder('tutorials'))]
    contents += there('papers.ipynb', 'verdicts.ipynb')
    contents += [dict(section=name, contents=listed) for name, listed in parts if listed]
    contents += there('map.ipynb')
    return dict(website=dict(sidebar=dict(contents=[*contents, 'api.md'])))


def prepare(cfg, work):
    "Everything the renderer reads, in `work`"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    pages = sorted(p for p in nbglob(cfg.nbs_path, as_path=True))
    homes = {n: p for p in pages if (n := procs._default_exp(read_nb(p)))}
    for p in pages:
        print(f'  {p.relative_to(cfg.nbs_path)}', flush=True)
        notebook(p, work / nbpath2html(p.relative_to(cfg.nbs_path)).with_suffix('.ipynb'))
    quarto = (cfg.nbs_path / '_quarto.yml').read_text()
    for p in pages:
        quarto = quarto.replace(
            str(p.relative_to(cfg.nbs_path)),
            str(nbpath2html(p.relative_to(cfg.nbs_path)).with_suffix('.ipynb')),
        )
    (work / '_quarto.yml').write_text(quarto)
    (work / 'sidebar.yml').write_text(yaml.dump(sidebar(cfg, pages), sort_keys=False))
    site = yaml.safe_load((cfg.nbs_path / 'nbdev.yml').read_text())
    site.pop('format-links', None)
    site['website'] = {name: value for name, value in site['website'].items() if value not in ('', '/')}
    (work / 'nbdev.yml').write_text(yaml.dump(site))
    shutil.copy(cfg.nbs_path / 'styles.css', work)
    if (cfg.nbs_path / 'images').exists():
        shutil.copytree(cfg.nbs_path / 'images', work / 'images')
    (work / 'data/results').mkdir(parents=True)
    shutil.copytree(cfg.config_path / 'data/results/figures', work / 'data/results/figures')
    (work / 'data/index.md').write_text(
        '---\ntitle: The data sets\n---\n\n'
        + re.sub(r'^# .*\n', '', (cfg.config_path / 'data/README.md').read_text(), count=1)
    )
    for name in ('CONTRIBUTING.md', 'CHANGELOG.md', 'SECURITY.md'):
        if (p := cfg.config_path / name).exists():
            (work / name.lower()).write_text(
                re.sub(r'^# (.*)\n', r'---\ntitle: \1\n---\n', p.read_text(), count=1)
            )
    (work / 'source').mkdir()
    for name, path in modules(cfg).items():
        if name in homes:
            (work / f'source/{name}.md').write_text(source_page(path))
    (work / 'api.md').write_text(api_page(cfg, homes, work))


def get_katex(home):
    "KaTeX's folder, from npm the first time; None, with a line, where npm is not or gets nothing"
    dist = home / 'node_modules/katex/dist'
    if not dist.exists():
        npm = [
            'npm',
            'install',
            '--prefix',
            str(home),
            '--no-save',
            '--no-fund',
            '--no-audit',
            '--fetch-retries=1',
            '--loglevel=error',
            f'katex@{KATEX}',
        ]
        try:
            subprocess.run(npm, check=True, capture_output=True, timeout=120)
        except (OSError, subprocess.SubprocessError) as e:
            command = ' '.join([*npm[:4], npm[-1]])
            print(
                f'no KaTeX, so formulas stay as they are typed ({type(e).__name__}); '
                f'to have them: {command}'
            )
    return dist if dist.exists() else None


def without_katex(text):
    "A page whose formulas stay as they are typed"
    return re.sub(r'<link[^>]*/KATEX[^>]*>|<script[^>]*/KATEX[^>]*></script>', '', text)


OPTION = re.compile(r'(?<=[>\s])--[a-z][\w-]*')


def whole_options(text):
    "A page on which no option of a command, where it stands as code, is broken at its hyphens"

    def kept(block):
        return OPTION.sub(r'<span class="option">\g<0></span>', block[0])

    return re.sub(r'<(code|pre)\b[^>]*>.*?</\1>', kept, text, flags=re.DOTALL)


def localise(out, katex):
    "KaTeX, if there, from the site itself, and a search that works from disk too"
    if katex:
        shutil.copytree(
            katex, out / 'site_libs/katex', ignore=shutil.ignore_patterns('*.mjs', 'README*')
        )
    for h in out.rglob('*.html'):
        up = '../' * (len(h.relative_to(out).parts) - 1)
        text = whole_options(h.read_text())
        h.write_text(
            text.replace('/KATEX', f'{up}site_libs/katex') if katex else without_katex(text)
        )
    for o in out.rglob('*.css'):
        o.write_text(
            re.sub(r'@import\s+(?:url\([^)]*\)|"[^"]*"|\'[^\']*\')[^;]*;', '', o.read_text())
        )
    js, old = (
        out / 'site_libs/smalldocs.js',
        'const r = await fetch(offset + "search.json");\n      index = await r.json();',
    )
    text = js.read_text()
    if old not in text:
        sys.exit(
            'smalldocs reads its search index in another way than 0.5.4; see localise in .ci/docs.py'
        )
    js.write_text(text.replace(old, FROM_SCRIPT))
    (out / 'search.js').write_text(
        'window.searchIndex = ' + (out / 'search.json').read_text().replace('</', '<\\/') + ';\n'
    )


# The search index by a script, which a browser also loads from disk
FROM_SCRIPT = """await new Promise((ok, no) => {
        const s = document.createElement("script");
        s.src = offset + "search.js"; s.onload = ok; s.onerror = no;
        document.head.append(s);
      });
      index = window.searchIndex;"""


def not_here(home):
    """The page for an address that is none, as hosts look for it

    It may be shown at any depth, so its links are whole addresses."""
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><title>Not here</title>
<style>:root {{ color-scheme: light dark }} body {{ font: 1.1rem/1.6 sans-serif; max-width: 34rem; margin: 15vh auto; padding: 0 1rem }}</style></head>
<body><h1>No page has this address</h1><p>It may have been renamed: pages are named after their notebooks, without the number.</p>
<p><a href="{home}index.html">Front page</a>, with search · <a href="{home}howto.html">How to</a> · <a href="{home}api.html">All names of the API</a></p></body></html>
"""


def build():
    cfg = get_config()
    os.chdir(cfg.config_path)
    work = (
        cfg.config_path / '.venv/site'
    )  # not nbdev's _proc: the README is made there, perhaps at the same time
    katex = get_katex(cfg.config_path / '.venv/katex')
    new = not (cfg.nbs_path / 'nbdev.yml').exists()
    refresh_quarto_yml()
    try:
        prepare(cfg, work)
    finally:
        if new:
            (cfg.nbs_path / 'nbdev.yml').unlink()
    smalldocs.layout.KATEX = '/KATEX'
    site = render(work, quiet=True)
    out = work / cfg.doc_path.name
    localise(out, katex)
    (out / '404.html').write_text(not_here(cfg.doc_host + cfg.doc_baseurl.rstrip('/') + '/'))
    shutil.rmtree(cfg.doc_path, ignore_errors=True)
    shutil.move(out, cfg.doc_path)
    for w in site.warnings:
        print('warning:', w, file=sys.stderr)
    print(f'{len(site.pages)} pages in {cfg.doc_path.name}; open {cfg.doc_path.name}/index.html')


# ---- check


class Page(HTMLParser):
    "Ids, links, what is loaded, and pictures without a description"

    def __init__(self, text):
        super().__init__()
        self.ids, self.links, self.loads, self.blind, self.title, self._t = (
            set(),
            [],
            [],
            0,
            '',
            False,
        )
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        a = dict(attrs)
        if 'id' in a:
            self.ids.add(a['id'])
        if tag == 'a' and a.get('href'):
            self.links.append(a['href'])
        if tag in ('img', 'script', 'iframe', 'source') and a.get('src'):
            self.loads.append(a['src'])
        if tag == 'link' and a.get('href') and a.get('rel') in ('stylesheet', 'icon', 'preload'):
            self.loads.append(a['href'])
        if tag == 'img' and not (a.get('alt') or '').strip():
            self.blind += 1
        if tag == 'title':
            self._t = True

    def handle_data(self, data):
        if self._t:
            self.title += data

    def handle_endtag(self, tag):
        if tag == 'title':
            self._t = False


def problems(out):
    "What is wrong with a built site, a line each"
    out = Path(out).resolve()
    pages = {p: Page(p.read_text()) for p in sorted(out.rglob('*.html'))}
    if not pages:
        yield f'{out} holds no page; `make docs` builds the site'
    for p in out.rglob('*.css'):
        if far := re.search(r'(?:@import\s+|url\()\s*["\']?https?:[^)"\';]*', p.read_text()):
            yield f'{p.relative_to(out)}: loads {far[0]}'
    for p, o in pages.items():
        name = p.relative_to(out)
        if not o.title.strip():
            yield f'{name}: no title'
        if o.blind:
            yield f'{name}: {o.blind} picture(s) without a description'
        for href in dict.fromkeys(o.links + o.loads):
            u = urlsplit(href)
            if u.scheme in ('http', 'https') or href.startswith('//'):
                if href in o.loads:
                    yield f'{name}: loads {href} from elsewhere'
                continue
            if u.scheme or href == '#':
                continue
            # Only the page for lost addresses is shown at any depth, so only there links begin at the root
            from_root = u.path.startswith('/') and p == out / '404.html'
            base, path = (out, u.path[1:]) if from_root else (p.parent, u.path)
            at = (base / unquote(path)).resolve() if u.path else p
            if at.is_dir():
                at = at / 'index.html'
            if not at.exists():
                yield f'{name}: broken link {href}'
            elif u.fragment and at in pages and unquote(u.fragment) not in pages[at].ids:
                yield f'{name}: no such place {href}'


def check():
    found = list(problems(get_config().doc_path))
    for o in found:
        print(o)
    if found:
        sys.exit(f'{len(found)} thing(s) to mend in the site')
    print('the site has no broken link')


def figures():
    "The front page's figures, from the tables in data/results"
    import pandas as pd
    from imbal_al.results.figures import fig4
    from imbal_al.results.loss_figures import fig9

    at = get_config().config_path / 'data/results'
    for name, fig in dict(
        fig4_sd900=fig4(pd.read_csv(at / 'active_learning.csv'), 'f1_heldout', data='sd900'),
        fig9_losses=fig9(pd.read_csv(at / 'losses.csv')),
    ).items():
        fig.savefig(at / f'figures/{name}.png', dpi=150, metadata=dict(Software=None))


if __name__ == '__main__':
    dict(check=check, figures=figures).get(' '.join(sys.argv[1:]), build)()
