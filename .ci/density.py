"""How dense the code is, module by module, and whether a module got worse than what is recorded

    python .ci/density.py            the table, from the exported modules and their notebooks
    python .ci/density.py check      fail where a module got worse than `.ci/density.csv` and misses the goal
    python .ci/density.py record     write `.ci/density.csv` anew
    python .ci/density.py all DIR    the row of all modules below a folder, such as another package's

Lines are those that are not blank, without nbdev's `# %%` marks. A token is a name, an operator,
a number or a string. Standard library only, so that it also reads packages that are not installed.
"""

import ast
import csv
import io
import json
import re
import sys
import tokenize
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RECORD = ROOT / '.ci/density.csv'
LONGEST = 160  # characters; beyond that a line may only be a text that a person reads
SYMBOLS = set('ijnxyzpqwTH')  # what a formula calls so, and counters

# What a module may have at the most, whatever is recorded of it
GOALS = {
    'over 100, %': 6,
    'over 120, %': 2,
    'over 160, %': 0.2,
    'with ;, %': 0,
    'tokens p90': 22,
    'tokens p99': 35,
    'one letter, %': 25,
    'lambdas / 1000': 4,
    'cell lines p90': 20,
    'definitions a cell': 1.2,
    'undocumented, %': 5,
    'over 10 parameters': 0,
    'imports inside, %': 10,
}
SHOWN = ['lines', 'public', *GOALS]
HEADING = [
    'lines public over over over with tokens tokens 1-let. lambda cell defs undoc. over10 inner'.split(),
    '. names 100,% 120,% 160,% ;,% p90 p99 name,% /1000 p90 a.cell par.,% par. imp.,%'.split(),
]
KEPT = {tokenize.NAME, tokenize.OP, tokenize.NUMBER, tokenize.STRING}
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
IMPORTS = (ast.Import, ast.ImportFrom)


def quantile(values, share):
    "The value below which a share of the values lies; 0 of none"
    values = sorted(values)
    return values[min(len(values) - 1, int(share * len(values)))] if values else 0


def percent(part, whole):
    return 100 * part / whole if whole else 0


def token_lines(source):
    "Tokens of each line, lines with a semicolon, and lines that hold a string or a comment"
    counts, semicolons, texts = {}, set(), set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        line = token.start[0]
        if token.type in KEPT:
            counts[line] = counts.get(line, 0) + 1
        if token.type == tokenize.OP and token.string == ';':
            semicolons.add(line)
        if token.type in (tokenize.STRING, tokenize.COMMENT):
            texts.update(range(line, token.end[0] + 1))
    return counts, semicolons, texts


def parameters(function):
    "Parameters of a function, without self and cls"
    given = function.args
    named = given.posonlyargs + given.args + given.kwonlyargs
    return [arg for arg in named if arg.arg not in ('self', 'cls')]


def public_functions(tree, names):
    "Public functions, and what a user calls of public classes"
    for node in tree.body:
        if isinstance(node, FUNCTIONS) and node.name in names:
            yield node
        if isinstance(node, ast.ClassDef) and node.name in names:
            yield from (m for m in node.body if is_method(m))


def is_method(node):
    return isinstance(node, FUNCTIONS) and (node.name == '__init__' or node.name[0] != '_')


def documented(function, lines):
    "Whether each parameter has a comment on its line, shared with no other"
    at = [arg.lineno for arg in parameters(function)]
    return [at.count(line) == 1 and '#' in lines[line - 1] for line in at]


def exported_names(tree):
    "`__all__`, else what is defined on top without an underscore"
    for node in tree.body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], 'id', '') == '__all__':
            return ast.literal_eval(node.value)
    top = [n.name for n in tree.body if isinstance(n, (*FUNCTIONS, ast.ClassDef))]
    return [name for name in top if name[0] != '_']


def local_names(tree):
    "Names that are set inside functions"
    for function in ast.walk(tree):
        if isinstance(function, FUNCTIONS):
            stored = [n for n in ast.walk(function) if isinstance(n, ast.Name)]
            yield from (n.id for n in stored if isinstance(n.ctx, ast.Store))


def measure(path):
    "What is counted of one file, before it is summed or divided"
    source = path.read_text(encoding='utf-8')
    tree, all_lines = ast.parse(source), source.split('\n')
    counts, semicolons, texts = token_lines(source)
    nodes = list(ast.walk(tree))
    functions = [n for n in nodes if isinstance(n, FUNCTIONS)]
    inner = {id(n) for f in functions for n in ast.walk(f) if isinstance(n, IMPORTS)}
    names = exported_names(tree)
    asked = [d for f in public_functions(tree, names) for d in documented(f, all_lines)]
    numbered = enumerate(all_lines, 1)
    return dict(
        lines=[line for line in all_lines if line.strip() and not line.startswith('# %%')],
        tokens=list(counts.values()),
        semicolons=len(semicolons),
        lambdas=sum(isinstance(n, ast.Lambda) for n in nodes),
        local=list(local_names(tree)),
        asked=asked,
        parameters=[len(parameters(f)) for f in functions],
        imports=[id(n) in inner for n in nodes if isinstance(n, IMPORTS)],
        public=names,
        too_long=[n for n, line in numbered if len(line) > LONGEST and n not in texts],
        cells=[],
        definitions=[],
    )


def exported_cells(notebook):
    "Sources of a notebook's exported cells, without directives and blank lines"
    for cell in json.loads(notebook.read_text(encoding='utf-8'))['cells']:
        source = ''.join(cell['source'])
        if cell['cell_type'] == 'code' and re.search(r'^#\| *exporti?\s*$', source, re.M):
            kept = [line for line in source.split('\n') if line.strip() and line[:2] != '#|']
            yield '\n'.join(kept)


def notebooks(root):
    "Module file -> the notebook that exports it"
    found = {}
    for path in sorted((root / 'nbs').rglob('*.ipynb')):
        name = re.search(r'#\| *default_exp +([\w.]+)', path.read_text(encoding='utf-8'))
        if name:
            found[root / 'imbal_al' / (name[1].replace('.', '/') + '.py')] = path
    return found


def with_cells(counted, notebook):
    "What is counted of a module, with the cells of its notebook"
    for source in exported_cells(notebook):
        tree = ast.parse(source)
        if all(isinstance(node, IMPORTS) for node in tree.body):
            continue
        found = [n for n in tree.body if isinstance(n, (*FUNCTIONS, ast.ClassDef))]
        counted['cells'].append(source.count('\n') + 1)
        counted['definitions'].append(len(found))
    return counted


def row(parts):
    "The table's columns for some files together"
    def joined(key):
        return [value for part in parts for value in part[key]]

    def total(key):
        return sum(part[key] for part in parts)

    lines, local, tokens = joined('lines'), joined('local'), joined('tokens')
    short = [name for name in local if len(name) == 1 and name not in SYMBOLS]
    over = {n: percent(sum(len(line) > n for line in lines), len(lines)) for n in (100, 120, 160)}
    with_definitions = [n for n in joined('definitions') if n]
    return {
        'lines': len(lines),
        'public': len(joined('public')),
        'over 100, %': over[100],
        'over 120, %': over[120],
        'over 160, %': over[160],
        'with ;, %': percent(total('semicolons'), len(lines)),
        'tokens p90': quantile(tokens, 0.9),
        'tokens p99': quantile(tokens, 0.99),
        'one letter, %': percent(len(short), len(local)),
        'lambdas / 1000': 1000 * total('lambdas') / max(len(lines), 1),
        'cell lines p90': quantile(joined('cells'), 0.9),
        'definitions a cell': sum(with_definitions) / max(len(with_definitions), 1),
        'undocumented, %': percent(joined('asked').count(False), len(joined('asked'))),
        'over 10 parameters': sum(n > 10 for n in joined('parameters')),
        'imports inside, %': percent(sum(joined('imports')), len(joined('imports'))),
    }


def measured(root, library='imbal_al'):
    "Module name -> what is counted of it"
    homes, found = notebooks(root), {}
    for path in sorted((root / library).rglob('*.py')):
        if path.name != '_modidx.py' and '.venv' not in path.parts:
            counted = measure(path)
            name = str(path.relative_to(root / library).with_suffix(''))
            found[name] = with_cells(counted, homes[path]) if path in homes else counted
    return found


def printed(name, values):
    return f'{name:28}' + ''.join(f'{values[key]:>8.4g}' for key in SHOWN)


def heading():
    "Two lines with the columns' names"
    return '\n'.join(' ' * 28 + ''.join(f'{word:>8}' for word in line) for line in HEADING)


def wing(name):
    return name.split('/')[0] if '/' in name else '(base)'


def table(found):
    "A line a module, a line a wing, a line for all"
    yield heading()
    for name, counted in found.items():
        yield printed(name, row([counted]))
    for part in sorted({wing(name) for name in found}):
        yield printed(f'{part}, all', row([c for name, c in found.items() if wing(name) == part]))
    yield printed('all', row(list(found.values())))


def recorded():
    "Module -> column -> what was recorded; empty without a record"
    if not RECORD.exists():
        return {}
    with RECORD.open(encoding='utf-8') as file:
        return {line.pop('module'): line for line in csv.DictReader(file)}


def worse(name, values, before):
    "What got worse in a module: beyond its record and beyond the goal, a line each"
    for key, goal in GOALS.items():
        limit = max(goal, float(before.get(key) or 0))
        if values[key] > limit + 0.005:
            yield f'{name}: {key} is {values[key]:.4g}, at most {limit:.4g} is allowed'


def failures(found, before):
    "Everything that `check` complains about"
    for name, counted in found.items():
        yield from worse(name, row([counted]), before.get(name, {}))
        for line in counted['too_long']:
            yield f'{name}.py, line {line}: over {LONGEST} characters and not a text; divide it'


def test_failures(root):
    "Tests are read as much as the code: no `;`, and 120 characters but for texts"
    for path in sorted((root / 'tests').rglob('*.py')):
        source = path.read_text(encoding='utf-8')
        _, semicolons, texts = token_lines(source)
        for n in sorted(semicolons):
            yield f'tests/{path.name}, line {n}: two statements on a line'
        for n, line in enumerate(source.split('\n'), 1):
            if len(line) > 120 and n not in texts:
                yield f'tests/{path.name}, line {n}: {len(line)} characters'


def record(found):
    with RECORD.open('w', encoding='utf-8', newline='') as file:
        writer = csv.DictWriter(file, ['module', *SHOWN], lineterminator='\n')
        writer.writeheader()
        for name, counted in found.items():
            values = {key: f'{value:.4g}' for key, value in row([counted]).items()}
            writer.writerow(dict(module=name, **values))


def check(found):
    wrong = [*failures(found, recorded()), *test_failures(ROOT)]
    for line in wrong:
        print(line)
    if wrong:
        sys.exit(f'{len(wrong)} lines to mend; CONTRIBUTING.md, Style, says how')
    print(f'{len(found)} modules are no denser than recorded')


def main(words):
    if words[:1] == ['all']:
        folder = Path(words[1])
        paths = [p for p in folder.rglob('*.py') if p.name != '_modidx.py']
        print(heading(), printed(folder.name, row([measure(p) for p in paths])), sep='\n')
        return
    found = measured(ROOT)
    if words == ['check']:
        check(found)
    elif words == ['record']:
        record(found)
    else:
        print('\n'.join(table(found)))


if __name__ == '__main__':
    main(sys.argv[1:])
