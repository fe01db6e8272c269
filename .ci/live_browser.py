"""Open the page of `imbal-al serve` in Chromium as an engineer would

A small demo is made and served; a few units that are faulty are labelled healthy, so that there are alarms.
A project without a label, its queue picked by first finds, is looked at, too.
Fails on console errors, pictures that do not load, a page wider than its window, a slider that changes nothing,
keys that do nothing, a dialog that does not fit, numbers of the curve that lie on each other, words that are too
faint (4.5 to 1, light and dark) or smaller than 11 px. Screenshots (desk and phone, light and dark) go to `_proc/live`.
`--keep DIR`: the demo stays there, and is served as it is where there is one.
"""

import argparse
import sys
import tempfile
import threading
import time
from pathlib import Path

from chromium import browser, free_port, lacks

root = Path(__file__).resolve().parent.parent
shots = root / '_proc/live'
ON_EACH_OTHER = """[...document.querySelectorAll('#curve text')].map(o => o.getBoundingClientRect()).filter((a,i,all) =>
    all.slice(0,i).some(b => a.left < b.right && b.left < a.right && a.top < b.bottom-2 && b.top < a.bottom-2)).length"""
# Words that are hard to read: less than 4.5 to 1 against what lies below them
FAINT = """(() => {
    const parts = c => c.match(/[\\d.]+/g).map(Number);
    const light = c => parts(c).slice(0, 3).map(v => v / 255).map(v =>
        v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4).reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
    const below = at => {
        for (; at; at = at.parentElement) {
            const c = getComputedStyle(at).backgroundColor, n = parts(c);
            if (n.length < 4 || n[3] === 1) return c;
        }
        return 'rgb(255, 255, 255)';
    };
    const said = [];
    for (const at of document.querySelectorAll('main *, header *, dialog *')) {
        if (![...at.childNodes].some(o => o.nodeType === 3 && o.textContent.trim()) || !at.getClientRects().length) continue;
        const how = getComputedStyle(at), ink = at.namespaceURI.endsWith('svg') ? how.fill : how.color;
        const [a, b] = [light(ink), light(below(at))].sort((x, y) => y - x);
        const contrast = (a + .05) / (b + .05);
        if (contrast < 4.5) said.push(`${at.textContent.trim().slice(0, 20)} ${contrast.toFixed(1)}`);
    }
    return said;
})()"""
# Words that are too small: an SVG's are as large as it is shown
SMALL = """[...document.querySelectorAll('main *, header *')].filter(at =>
    [...at.childNodes].some(o => o.nodeType === 3 && o.textContent.trim()) && at.getClientRects().length).filter(at => {
        const svg = at.ownerSVGElement, scale = svg ? svg.getBoundingClientRect().width / svg.viewBox.baseVal.width : 1;
        return parseFloat(getComputedStyle(at).fontSize) * scale < 11;
    }).map(at => at.textContent.trim().slice(0, 20))"""
EMPTY = """Promise.all([...document.images].filter(o => o.hasAttribute('src')).map(o => {
    o.loading = 'eager';
    return o.decode().then(() => 0, () => 1);
})).then(o => o.reduce((a,b) => a+b, 0))"""


def demo_project(out):
    "A project of a small demo"
    from imbal_al.live.demo import _Scale, walk_demo

    if (out / 'steps' / 'predict.txt').exists():
        return out / 'parts'
    scale = _Scale(today=70, tomorrow=6, side=64, steps=60, budgets=(30, 10, 10))
    walk_demo(out, 0, scale, lambda text: None)
    return out / 'parts'


def lie(p, answers):
    "Faulty units that the network finds are labelled healthy, four at most"
    import numpy as np
    from imbal_al.project.labelled import labels, write_label

    lied = 0
    table = labels(p)
    for id in table['id'][table['faulty'].astype(bool)]:
        prob = answers.probability(p, id)
        if prob.max() >= 0.5 and lied < 4:
            write_label(p, id, np.zeros(prob.shape, np.uint8), 'a lie', '', revert=True)
            lied += 1
    assert lied, 'the demo network finds nothing'


def served(live):
    "The page of a project in a thread; its address"
    import uvicorn
    from imbal_al.live.server import make_app

    port = free_port()
    server = uvicorn.Server(uvicorn.Config(make_app(live), port=port, log_level='warning'))
    threading.Thread(target=server.run, daemon=True).start()
    while not server.started:
        time.sleep(0.05)
    return f'http://127.0.0.1:{port}/'


def demo_live(dir):
    "A project that is served, with alarms and a queue"
    from imbal_al.live.server import make_live
    from imbal_al.live.trainer import Plan
    from imbal_al.live.view import slow_view
    from imbal_al.project.rounds import next_round
    from imbal_al.project.store import open_project

    p = open_project(dir)
    next_round(p, 8, 'entropy', 'cpu')
    live = make_live(dir, Plan(every=1000, prevalence=0.1))
    lie(p, live.answers)
    slow_view(p, live.answers, 0.1)
    return live


def cold_live(out):
    "A project without a label that is served; first finds have picked its queue"
    from PIL import Image
    from imbal_al.data.synthetic import image
    from imbal_al.live.server import make_live
    from imbal_al.project.intake import new
    from imbal_al.project.rounds import next_round
    from imbal_al.project.store import open_project

    dir = out / 'cold'
    if not dir.exists():
        (out / 'camera').mkdir(parents=True, exist_ok=True)
        for i in range(40):
            Image.fromarray(image('steel', i, 96, 0, i % 4 == 0)[0]).save(out / 'camera' / f'{i:02d}.png')
        new(dir, out / 'camera', window=96, overlap=0, held_out=0.2)
    next_round(open_project(dir), 12, 'anomaly', 'cpu')
    return make_live(dir)


def looks(page, name, wrong):
    "A screenshot, and what can be measured of it"
    page.wait_for_selector('#queue img')
    empty = page.evaluate(EMPTY)
    wide = page.evaluate('document.documentElement.scrollWidth - innerWidth')
    if over := page.evaluate(ON_EACH_OTHER):
        wrong.append(f'{name}: {over} text(s) of the curve lie on another')
    if empty:
        wrong.append(f'{name}: {empty} picture(s) do not load')
    if wide > 1:
        wrong.append(f'{name}: {wide} px wider than the window')
    if faint := page.evaluate(FAINT):
        wrong.append(f'{name}: hard to read: {", ".join(faint[:5])}')
    if small := page.evaluate(SMALL):
        wrong.append(f'{name}: smaller than 11 px: {", ".join(small[:5])}')
    page.screenshot(path=shots / f'{name}.png', full_page=True)
    page.keyboard.press('d')
    page.wait_for_selector('#photo[src]')
    page.evaluate("document.getElementById('photo').decode()")
    page.screenshot(path=shots / f'{name}-clicks.png')
    for at in ('#board', '#draw-accept', '#draw-leave'):
        box, size = page.locator(at).bounding_box(), page.viewport_size
        right, bottom = box['x'] + box['width'], box['y'] + box['height']
        if min(box['x'], box['y']) < 0 or right > size['width'] or bottom > size['height']:
            wrong.append(f'{name}: {at} of the dialog is not in the window')


def walked(page, wrong):
    "By keys alone: the slider, both answers to alarms, the heat-map, a verdict"
    before = page.inner_text('#caught'), page.inner_text('#flagged')
    page.focus('#threshold')
    for _ in range(40):
        page.keyboard.press('ArrowRight')
    if (page.inner_text('#caught'), page.inner_text('#flagged')) == before:
        wrong.append('the slider changes neither number')
    page.focus('#keep')
    page.keyboard.press('Enter')
    page.wait_for_function("document.getElementById('kept').textContent.startsWith('kept')")
    n = page.locator('#alarms li[data-id]').count()
    if n < 2:
        return wrong.append(f'{n} alarms, two are needed')
    page.evaluate('document.activeElement.blur()')
    page.keyboard.press('f')
    page.keyboard.down('f')
    page.wait_for_function("document.getElementById('alarm-said').textContent.includes('no defect')")
    page.wait_for_function(f"document.querySelectorAll('#alarms li[data-id]').length == {n - 1}")
    page.keyboard.down('f')  # Still held: it repeats
    page.keyboard.up('f')
    page.wait_for_timeout(500)
    if page.locator('#alarms li[data-id]').count() != n - 1:
        wrong.append('a key that is held down answers what was not looked at')
    page.keyboard.press('r')
    page.wait_for_function("/a defect|tested on/.test(document.getElementById('alarm-said').textContent)")
    src = page.get_attribute('#alarms img', 'src') if page.locator('#alarms img').count() else None
    page.keyboard.press('h')
    if src and page.get_attribute('#alarms img', 'src') == src:
        wrong.append('h changes no heat-map')


def by_keys(page, wrong):
    "Arrows go from alarm to alarm; Enter opens a unit, Shift and an arrow move the cross by ten, x clicks beside"
    page.evaluate('document.activeElement.blur()')
    focused = 'document.activeElement.dataset.id'
    page.keyboard.press('ArrowRight')
    first = page.evaluate(focused)
    page.keyboard.press('ArrowRight')
    second = page.evaluate(focused)
    page.keyboard.press('ArrowLeft')
    if not first or first == second or page.evaluate(focused) != first:
        wrong.append(f'arrows go from {first} to {second} and back to {page.evaluate(focused)}')
    page.locator('#queue li[data-id]').nth(1).focus()
    wanted = page.evaluate(focused)
    page.keyboard.press('Enter')
    page.wait_for_function("drawing && drawing.at && document.getElementById('draw').open")
    if page.evaluate('drawing.id') != wanted:
        wrong.append('Enter opens another unit than the one that has the focus')
    before = page.evaluate('drawing.at[0]')
    page.keyboard.press('Shift+ArrowUp')
    if page.evaluate('drawing.at[0]') != before - 10:
        wrong.append('Shift and an arrow do not move the cross by ten')
    page.keyboard.press('x')
    page.wait_for_function("document.getElementById('draw-said').textContent === 'click on the defect first'")
    page.keyboard.press('a')
    page.wait_for_function("document.getElementById('draw-said').textContent.startsWith('no mask is shown')")
    page.keyboard.press('Escape')


def clicked(page, wrong):
    "A mask of the queue's first unit by the cross and by a click, taken back and accepted; the next one healthy"
    page.evaluate('document.activeElement.blur()')
    waiting = page.evaluate('view.waiting')
    page.keyboard.press('d')
    page.wait_for_function("drawing && drawing.at && document.getElementById('draw').open")
    page.keyboard.press('ArrowDown')
    page.keyboard.press('c')
    page.wait_for_function("/clicks: 1$/.test(document.getElementById('draw-said').textContent)")
    page.click('#photo', position=dict(x=40, y=30))
    page.wait_for_function("/clicks: 2$/.test(document.getElementById('draw-said').textContent)")
    if page.evaluate("document.getElementById('tint').naturalWidth != document.getElementById('photo').naturalWidth"):
        wrong.append('the mask is not of the size of its picture')
    page.screenshot(path=shots / 'clicks.png')
    before = page.inner_text('#draw-said')
    page.click('#draw-beside')
    page.click('#photo', position=dict(x=40, y=30))
    page.wait_for_function("/clicks: 3$/.test(document.getElementById('draw-said').textContent)")
    if page.evaluate('drawing.clicks.map(one => one[2]).join()') != 'true,true,false':
        wrong.append('the button does not make clicks beside the defect')
    page.keyboard.press('u')
    page.wait_for_function("/clicks: 2$/.test(document.getElementById('draw-said').textContent)")
    if page.inner_text('#draw-said') != before:
        wrong.append('a click taken back leaves something')
    page.keyboard.press('u')
    page.wait_for_function("/clicks: 1$/.test(document.getElementById('draw-said').textContent)")
    first = page.evaluate('drawing.id')
    page.keyboard.press('a')
    page.keyboard.press('n')  # Too early: it must not overwrite what is accepted
    page.wait_for_function(f"drawing && drawing.id != '{first}' && drawing.at")
    if ': a defect' not in page.inner_text('#queue-said'):
        wrong.append('a key that came too early has overwritten a mask: ' + page.inner_text('#queue-said'))
    page.keyboard.press('n')
    page.wait_for_function("/: no defect/.test(document.getElementById('queue-said').textContent)")
    page.wait_for_function(f'view.waiting == {waiting - 2}')
    page.keyboard.press('Escape')
    if page.evaluate("document.getElementById('draw').open"):
        wrong.append('Escape does not leave the drawing')


def said_healthy(page, wrong):
    "One key on a unit of the queue says that nothing is wrong with it, and the next one has the focus"
    page.wait_for_selector('#queue li[data-id]')
    waiting, first = page.evaluate('[view.waiting, view.queue[0].id]')
    name = page.evaluate('view.queue[0].name')
    page.locator('#queue li[data-id]').first.focus()
    page.keyboard.press('f')
    page.keyboard.press('f')  # Too early: it must not answer for the same unit twice
    page.wait_for_function(f"document.getElementById('queue-said').textContent.startsWith('{name}: no defect')")
    page.wait_for_function(f"!view.queue.some(one => one.id == '{first}')")
    if page.evaluate('view.waiting') >= waiting:
        wrong.append('a key says healthy, and as many units wait')
    page.locator('#queue li[data-id]').first.focus()
    page.keyboard.press('r')
    page.wait_for_function("document.getElementById('draw').open")
    page.keyboard.press('Escape')


RED = """(at) => {
    const im = document.querySelector(at), c = document.createElement('canvas');
    c.width = im.naturalWidth; c.height = im.naturalHeight;
    const d = c.getContext('2d'); d.drawImage(im, 0, 0);
    const px = d.getImageData(0, 0, c.width, c.height).data;
    let most = 0;
    for (let i = 0; i < px.length; i += 4) most = Math.max(most, px[i] - px[i + 2]);
    return most;
}"""


def cold(page, wrong):
    "Before the first label: heat on the tiles, gone and back by h, and in the dialog by its own key"
    page.wait_for_selector('#queue img')
    page.evaluate(EMPTY)
    hot = page.evaluate('view.queue.filter(one => one.hot).map(one => one.id)')
    said = page.inner_text('#heat-said')
    if not hot or 'no network yet' not in said:
        return wrong.append(f'a cold queue: {len(hot)} heat-maps, said: {said}')
    page.screenshot(path=shots / 'cold.png', full_page=True)
    tile = f"#queue li[data-id='{hot[0]}'] img"
    red = [page.evaluate(RED, tile)]
    page.keyboard.press('h')
    page.evaluate(EMPTY)
    red.append(page.evaluate(RED, tile))
    page.keyboard.press('h')
    page.evaluate(EMPTY)
    red.append(page.evaluate(RED, tile))
    if not red[0] == red[2] > 100 > 10 > red[1]:
        wrong.append(f'h on a cold queue: {red} of red')
    page.focus(f"#queue li[data-id='{hot[0]}']")
    page.keyboard.press('d')
    page.wait_for_function('drawing && drawing.at')
    page.keyboard.press('ArrowDown')
    before = page.evaluate('drawing.at.join()')
    page.keyboard.press('h')
    page.wait_for_function("document.getElementById('photo').src.includes('heat=1')")
    page.evaluate("document.getElementById('photo').decode()")
    if page.evaluate(RED, '#photo') < 100 or page.evaluate('drawing.at.join()') != before:
        wrong.append('h in the dialog shows no heat-map, or moves the cross')
    page.screenshot(path=shots / 'cold-clicks.png')
    page.click('#draw-heat')
    page.wait_for_function("document.getElementById('photo').src.includes('heat=0')")
    page.keyboard.press('Escape')


def main():
    given = argparse.ArgumentParser(description=__doc__)
    given.add_argument('--keep', type=Path)
    keep = given.parse_args().keep
    missing = lacks()
    if missing:
        sys.exit(missing)
    shots.mkdir(parents=True, exist_ok=True)
    out = keep or Path(tempfile.mkdtemp()) / 'demo'
    address, wrong = served(demo_live(demo_project(out))), []
    fresh = served(cold_live(out))
    with browser() as opened:
        for place, size in (('desk', (1280, 900)), ('phone', (390, 844))):
            for scheme in ('light', 'dark'):
                page = opened.new_page(
                    viewport=dict(width=size[0], height=size[1]), color_scheme=scheme
                )
                page.on('console', lambda m: m.type == 'error' and wrong.append(f'console: {m.text}'))
                page.on('pageerror', lambda e: wrong.append(f'script: {e}'))
                page.goto(address)
                looks(page, f'{place}-{scheme}', wrong)
                page.close()
        page = opened.new_page(bypass_csp=True)  # What waits here is evaluated
        page.goto(address)
        page.wait_for_selector('#queue img')
        by_keys(page, wrong)
        walked(page, wrong)
        clicked(page, wrong)
        said_healthy(page, wrong)
        page.goto(fresh)
        cold(page, wrong)
    print('\n'.join(wrong) or f'the page works; screenshots in {shots}')
    return len(wrong)


if __name__ == '__main__':
    sys.exit(main() or 0)
