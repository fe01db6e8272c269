"A kind of run that takes no time and fails as it is told; worker processes import it"

import json, os, signal, sys, time
from dataclasses import asdict, dataclass
from pathlib import Path

from imbal_al.core import InputError, config_hash, read_json
from imbal_al.runs.plan import Kind, register
from imbal_al.runs.engine import run_all  # noqa: F401 (test_cli and a child process ask this module for it)
from imbal_al.runs.lock import Lock, Lost
from imbal_al.runs.folder import read_result, write_result


@dataclass(frozen=True)
class Stub:
    "do: '', 'die', 'die once', 'disk', 'disk once', 'wrong', 'diverge', 'memory'; a '+' in front of it waits `seconds` first"

    number: int = 0
    do: str = ''
    seconds: float = 0.0
    size: int | None = None
    pair: tuple = (1, 2)

    @property
    def hash(self):
        return config_hash(asdict(self))


def check(c):
    if c.number < 0:
        raise InputError(f'number = {c.number}')


def attempts(runs, c):
    p = Path(runs) / c.hash / 'attempts'
    return len(p.read_text()) if p.exists() else 0


def run_stub(c, runs, device, root, threads):
    d = Path(runs) / c.hash
    d.mkdir(parents=True, exist_ok=True)
    if r := read_result(d):
        return r
    lock = Lock(d / 'owner.json')
    if not lock.acquire():
        return read_result(d)
    try:
        with lock:
            return read_result(d) or _run(c, runs, d, lock)
    except Lost:
        return None


def _run(c, runs, d, lock):
    with open(d / 'attempts', 'a') as f:
        f.write('x')
    time.sleep(c.seconds)
    if c.do == 'die' or c.do == 'die once' and attempts(runs, c) == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    if c.do == 'disk' or c.do == 'disk once' and attempts(runs, c) == 1:
        raise OSError(28, 'No space left on device')
    if c.do == 'wrong':
        raise ValueError('wrong\nin two lines')
    if c.do == 'diverge':
        raise FloatingPointError('the training diverged')
    if c.do == 'memory':
        raise MemoryError('out of memory')
    lock.check()
    rows = [
        dict(
            number=c.number,
            j=j,
            value=c.number / 3 + j,
            none=None,
            nan=float('nan'),
            size=1 if j else 0.5,
            config=c.hash,
        )
        for j in range(2)
    ]
    write_result(
        d,
        dict(
            rows=rows,
            provenance=dict(
                commit='abc',
                cpu='cpu',
                cores=2,
                python='3',
                device='cpu',
                threads=1,
                versions=dict(torch='2'),
                precision=dict(train='fp32'),
            ),
        ),
        [],
    )
    return read_result(d)


def diverged(d):
    line = (read_json(Path(d) / 'failed.json') or {}).get('line', '')
    return line if 'diverged' in line else None


def rows(c, folder, r):
    return r['rows']


def from_json(o):
    return Stub(**{k: tuple(v) if isinstance(v, list) else v for k, v in o.items()})


STUBS = register(
    Kind(
        config=Stub,
        from_json=from_json,
        check=check,
        prepare=lambda configs, root: None,
        run=run_stub,
        read=read_result,
        tables={'results.csv': (rows, ('j',))},
        order=lambda c: c.number,
        columns=lambda c: dict(data=c.do, strategy=str(c.number), pi_u=0.5),
        label=lambda c: f'number {c.number}',
        marks='result.json',
        origin=lambda o: dict(runs=o.runs, provenance=o.provenance()),
        final=diverged,
    )
)

if __name__ == '__main__':
    signal.signal(signal.SIGINT, signal.default_int_handler)  # A shell's background job ignores it
    folder, configs, workers = (
        sys.argv[1],
        [from_json(o) for o in json.loads(sys.argv[2])],
        int(sys.argv[3]),
    )
    import stubs

    try:
        print(
            json.dumps(
                stubs.run_all(folder, [stubs.from_json(asdict(c)) for c in configs], workers, 'cpu')
            )
        )
    except KeyboardInterrupt:
        print('stopped')
        sys.exit(130)
