"Make README.md from nbs/index.ipynb; with --check, fail if it is not what it should be"
import json, os, re, sys
from pathlib import Path

import pypandoc
from nbdev.config import get_config
from nbdev.serve import proc_nbs

def plain(path):
    "A processed notebook without nbdev's extras, as strict readers want it, and its title and description"
    d = json.loads(path.read_text())
    for c in d['cells']:
        c.pop('has_sd', None); c['metadata'] = {}
        if c['cell_type']=='code': c.setdefault('outputs', []); c.setdefault('execution_count', None)
        for o in c.get('outputs', []):
            if o['output_type']!='stream': o.setdefault('metadata', {})
            if o['output_type']=='execute_result': o['execution_count'] = 1
    front = next((''.join(c['source']) for c in d['cells'] if c['cell_type']=='raw'), '')
    d['cells'] = [c for c in d['cells'] if c['cell_type']!='raw']
    return d, dict(re.findall(r'^(title|description): (.*)$', front, re.M))

def build():
    cfg = get_config(); os.chdir(cfg.config_path)
    nb,front = plain(Path(proc_nbs(cfg.nbs_path, n_workers=0, force=True, file_glob='index.ipynb'))/'index.ipynb')
    md = pypandoc.convert_text(json.dumps(nb), 'gfm-raw_html', format='ipynb', extra_args=['--wrap=preserve'])
    text = f"# {front['title']}\n\n<!-- Generated from nbs/index.ipynb by `make readme`; edit that -->\n\n{front.get('description','')}\n\n{md}"
    return re.sub(r'\]\(\.\./', '](', text)

if __name__=='__main__':
    text,path = build(), Path('README.md')
    if '--check' not in sys.argv: path.write_text(text)
    elif path.read_text()!=text: sys.exit('README.md is not what nbs/index.ipynb gives; run `make readme`, then commit')
