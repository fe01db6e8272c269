"""Open the built site in Chromium as a reader would

Fails on console errors, a search without hits, raw formulas, empty figures, dead source links.
Screenshots go to `_proc/shots`. `--quick`: only the main pages.
"""

import sys
from pathlib import Path

from chromium import browser, lacks

root = Path(__file__).resolve().parent.parent
site, shots = root / '_docs', root / '_proc/shots'
SHOWN = (
    'index.html',
    'questions.html',
    'papers.html',
    'verdicts.html',
    'losses.region.html',
    'losses.compound.html',
    'study_active_learning.html',
    'study_losses.html',
    'api.html',
    'tutorials/first_study.html',
)
# What is typed into the search box, and where the first hit leads
SOUGHT = {
    'DIBELoss': 'losses.compound.html',
    'Tversky': 'losses.region.html#tversky',
    'Eq. 12': 'hybrid-focal',
    'DIBE': 'losses.compound.html#dibe',
    'hard negatives': 'questions.html',
}
# Formulas that are not rendered, and pictures that do not load: how many
RAW = """[...document.querySelectorAll('.math')].filter(o => !o.querySelector('.katex')).length
    + document.querySelectorAll('.katex-error').length"""
EMPTY = """Promise.all([...document.images].map(o => o.decode().then(() => 0, () => 1)))
    .then(o => o.reduce((a,b) => a+b, 0))"""


def needed():
    "What is missing, a line; None if all is there"
    no_site = None if (site / 'index.html').exists() else 'no site: make docs'
    return lacks() or no_site


def visit(page, path, wrong):
    "Load a page and look at its formulas and pictures"
    page.goto((site / path).as_uri(), wait_until='load')
    raw = page.evaluate(RAW)
    empty = page.evaluate(EMPTY)
    wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
    if raw:
        wrong.append(f'{path}: {raw} formula(s) not rendered')
    if empty:
        wrong.append(f'{path}: {empty} picture(s) do not load')
    if wide > 1:
        wrong.append(f'{path}: {wide} px wider than the window')


def search(page, word, place, wrong):
    "Type a word into the search box; the first hit leads to a place, and holds the word"
    page.goto((site / 'index.html').as_uri())
    box = page.locator('#quarto-search input').first
    box.click()
    box.type(word)
    try:
        page.wait_for_selector('.search-result', timeout=20000)
    except Exception:
        return wrong.append(f'search for {word} finds nothing')
    hit = page.locator('.search-result').first
    print(f'search for {word}:', ' / '.join(hit.inner_text().split('\n')[:2]))
    page.screenshot(path=shots / 'search.png')
    at = hit.evaluate('o => o.href')
    if place not in at:
        wrong.append(f'the first hit for {word} leads to {at}, not to {place}')
    page.goto(at)
    if word.lower() not in page.content().lower():
        wrong.append(f'the first hit for {word} does not hold it')


def source(page, path, name, wrong):
    "From an API entry to its line in the source"
    page.goto((site / path).as_uri() + f'#{name.lower()}')
    link = (
        page.locator(f'section#{name.lower()} a, #{name.lower()}')
        .locator('xpath=preceding::a[normalize-space()="source"][1]')
        .first
    )
    page.goto(link.evaluate('o => o.href'))
    line = page.url.rpartition('#')[2]
    text = page.locator(f'#{line}').inner_text() if line.startswith('L') else ''
    print('source link:', page.url.rpartition('/')[2], text.strip())
    if name not in text:
        wrong.append(f'{path}: the source link of {name} leads to {text!r}')


def main():
    if o := needed():
        sys.exit(o)
    shots.mkdir(parents=True, exist_ok=True)
    wrong = []
    with browser() as b:
        for kind, size in dict(desk=(1280, 900), phone=(390, 844)).items():
            for scheme in ('light', 'dark'):
                page = b.new_context(
                    viewport=dict(width=size[0], height=size[1]), color_scheme=scheme
                ).new_page()
                page.on(
                    'console',
                    lambda m: wrong.append(f'{page.url}: {m.text}') if m.type == 'error' else None,
                )
                page.on('pageerror', lambda e: wrong.append(f'{page.url}: {e}'))
                every = (
                    [str(o.relative_to(site)) for o in sorted(site.rglob('*.html'))]
                    if scheme == 'light' and '--quick' not in sys.argv
                    else [o for o in SHOWN if (site / o).exists()]
                )
                for path in every:
                    visit(page, path, wrong)
                    if path in SHOWN:
                        page.screenshot(
                            path=shots / f"{kind}_{scheme}_{path.replace('/','_')[:-5]}.png"
                        )
                print(f'{kind}, {scheme}: {len(every)} pages')
        page = b.new_page(viewport=dict(width=1280, height=900))
        for word, place in SOUGHT.items():
            search(page, word, place, wrong)
        source(page, 'losses.compound.html', 'DIBELoss', wrong)
    print(
        '\n'.join(dict.fromkeys(wrong))
        or f'every page is sound; screenshots in {shots.relative_to(root)}'
    )
    if wrong:
        sys.exit(1)


if __name__ == '__main__':
    main() if not needed() else sys.exit(needed())
