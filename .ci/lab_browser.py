"""Open a tutorial in JupyterLab as a reader would, run it to its end, move a slider

Fails if a cell fails, is not run, or the figure stays as it was. JupyterLab runs on this machine's
loopback only, with settings of its own, and nothing is saved. Screenshots go to `_proc/shots`.
Another notebook than the third tutorial: its path in `nbs`.
"""

import json, os, secrets, subprocess, sys, tempfile, time
from pathlib import Path
from urllib.request import urlopen

from chromium import browser, free_port, lacks

root = Path(__file__).resolve().parent.parent
shots = root / '_proc/shots'
PROMPTS = "[...document.querySelectorAll('.jp-Notebook .jp-CodeCell .jp-InputPrompt')].map(o => o.innerText.trim())"
PATIENCE = 900


def needed():
    "What is missing, a line; None if all is there"
    no_lab = None if jupyter().exists() else 'no JupyterLab: make setup'
    return lacks() or no_lab


def jupyter():
    return root / '.venv/bin/jupyter-lab'


def start(home, port, token):
    "JupyterLab on loopback, with settings of its own under `home`: nothing is saved, and all cells are in the page"
    for name, value in {
        'docmanager-extension/plugin': dict(autosave=False),
        'notebook-extension/tracker': dict(windowingMode='none'),
        'apputils-extension/notification': dict(fetchNews='false', checkForUpdates=False),
    }.items():
        f = home / f'user-settings/@jupyterlab/{name}.jupyterlab-settings'
        f.parent.mkdir(parents=True)
        f.write_text(json.dumps(value))
    env = {
        **os.environ,
        **{f'JUPYTER_{k}_DIR': str(home / k) for k in ('CONFIG', 'RUNTIME')},
        'IPYTHONDIR': str(home / 'ipython'),
        'OMP_NUM_THREADS': '1',
        'PATH': f'{jupyter().parent}:{os.environ["PATH"]}',
    }
    env.pop('IN_TEST', None)
    said = open(home / 'log', 'w')
    return subprocess.Popen(
        [
            jupyter(),
            '--no-browser',
            '--allow-root',
            '--ip=127.0.0.1',
            f'--port={port}',
            '--ServerApp.port_retries=0',
            f'--IdentityProvider.token={token}',
            f'--ServerApp.root_dir={root/"nbs"}',
            f'--LabApp.user_settings_dir={home/"user-settings"}',
            f'--LabApp.workspaces_dir={home/"workspaces"}',
        ],
        env=env,
        stdout=said,
        stderr=said,
    )


def wait_for(lab, url, home):
    for _ in range(240):
        if lab.poll() is not None:
            sys.exit(f'JupyterLab ended: {(home/"log").read_text()[-500:]}')
        try:
            return urlopen(url, timeout=5).close()
        except OSError:
            time.sleep(0.5)
    sys.exit('JupyterLab does not answer')


def answer(page):
    "Say yes to a question that JupyterLab asks at the start, and print it"
    if (asked := page.locator('.jp-Dialog')).count():
        print('asked:', ' '.join(asked.first.inner_text().split()))
        page.locator('.jp-Dialog .jp-mod-accept').first.click()
        time.sleep(1)


def has_run(prompt):
    "Is it '[3]:'? '[ ]:' was not run, '[*]:' is running"
    return prompt.strip('[]: ').isdigit()


def run_all(page):
    "Run every cell and wait for the last; the prompts then"
    time.sleep(3)
    answer(page)
    page.wait_for_selector('.jp-Notebook-ExecutionIndicator[data-status="idle"]', state='attached')
    answer(page)
    page.locator('.jp-Notebook .jp-Cell').first.click()
    page.locator('.lm-MenuBar-itemLabel', has_text='Run').first.click()
    page.locator('.lm-Menu-item[data-command="runmenu:run-all"]').click()
    for _ in range(PATIENCE // 2):
        time.sleep(2)
        prompts = page.evaluate(PROMPTS)
        if os.environ.get('LAB_TALK'):
            print(time.strftime('%T'), ' '.join(prompts), flush=True)
        if prompts and all(map(has_run, prompts)):
            break
        if page.locator('.jp-RenderedText[data-mime-type="application/vnd.jupyter.error"]').count():
            break
    return prompts


def picture(page):
    "The first figure that a widget drew"
    return page.evaluate(
        "document.querySelector('.widget-interact .jp-OutputArea-output img')?.src ?? ''"
    )


def drag(page, by=-60):
    "Move the first slider; whether its figure has changed"
    slider = page.locator('.widget-interact .noUi-handle').first
    slider.scroll_into_view_if_needed()
    time.sleep(1)
    before = picture(page)
    page.screenshot(path=shots / 'lab_before.png')
    box = slider.bounding_box()
    x, y = box['x'] + box['width'] / 2, box['y'] + box['height'] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + by, y, steps=6)
    page.mouse.up()
    for _ in range(60):
        time.sleep(0.5)
        if picture(page) not in ('', before):
            break
    page.screenshot(path=shots / 'lab_after.png')
    return before != '' and picture(page) not in ('', before)


def visit(page, url, name):
    "What is wrong with a notebook that is opened, run and played with"
    wrong = []
    page.on('pageerror', lambda e: wrong.append(f'script error: {e}'))
    page.set_default_timeout(120000)
    page.goto(url)
    page.wait_for_selector('.jp-Notebook .jp-Cell')
    prompts = run_all(page)
    page.screenshot(path=shots / 'lab_end.png')
    failed = page.locator(
        '.jp-RenderedText[data-mime-type="application/vnd.jupyter.error"]'
    ).all_inner_texts()
    print(f'{name}: {len(prompts)} code cells, the last is {prompts[-1] if prompts else "none"}')
    wrong += [f'a cell failed: {o.strip().splitlines()[-1]}' for o in failed]
    if not failed and not all(map(has_run, prompts)):
        wrong.append(f'not run within {PATIENCE} s: {prompts}')
    if not page.locator('.widget-interact .noUi-handle').count():
        wrong.append('no slider is alive')
    elif not drag(page):
        wrong.append('a slider was moved, and the figure stayed as it was')
    return wrong


def main(name='tutorials/3_reading_oii.ipynb'):
    before = (root / 'nbs' / name).read_bytes()
    shots.mkdir(parents=True, exist_ok=True)
    port, token = free_port(), secrets.token_hex(16)
    with tempfile.TemporaryDirectory() as d:
        lab = start(Path(d), port, token)
        try:
            wait_for(lab, f'http://127.0.0.1:{port}/api?token={token}', Path(d))
            with browser() as b:
                page = b.new_context(viewport=dict(width=1300, height=1000)).new_page()
                wrong = visit(
                    page, f'http://127.0.0.1:{port}/lab/tree/{name}?reset&token={token}', name
                )
        finally:
            lab.terminate()
            lab.wait(60)
    if (root / 'nbs' / name).read_bytes() != before:
        wrong.append(f'{name} was changed by looking at it')
    print(
        '\n'.join(wrong)
        or f'run to its end, the slider moves the figure; screenshots in {shots.relative_to(root)}'
    )
    if wrong:
        sys.exit(1)


if __name__ == '__main__':
    main(*sys.argv[1:]) if not needed() else sys.exit(needed())
