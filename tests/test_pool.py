"imbal_al.runs.workers: what is refused"

import builtins
import pytest
from imbal_al.core import InputError
from imbal_al.runs.workers import make_pool, work


def test_bad_backend_and_address():
    with pytest.raises(InputError, match="unknown backend 'slurm'; choose one of: serial, ray"):
        make_pool(int, 'slurm')
    with pytest.raises(InputError, match='--address here is for --backend ray'):
        make_pool(int, address='here')


def test_ray_that_is_not_installed_is_one_line(monkeypatch):
    real = builtins.__import__

    def no_ray(name, *a, **k):
        if name == 'ray':
            raise ImportError(name)
        return real(name, *a, **k)

    monkeypatch.setattr(builtins, '__import__', no_ray)
    with pytest.raises(InputError, match=r"pip install 'ray>=2.40'"):
        make_pool(int, 'ray')


def test_the_pool_is_closed_whatever_happens():
    p = make_pool(lambda c: 1 / 0, workers=0)
    closed = []
    p.close = lambda: closed.append(1)
    with pytest.raises(ZeroDivisionError):
        work(p, ['x'])
    assert closed == [1]


def test_nothing_to_do():
    work(make_pool(int, workers=3), [])
