"The engine over Ray: the same tables as worker processes, killed workers, bad addresses. Needs the extra `ray`"

import os
from importlib.util import find_spec
from pathlib import Path

import pytest

from imbal_al.core import InputError
from imbal_al.runs.engine import run_all
from stubs import Stub, attempts

pytestmark = pytest.mark.real
if not find_spec('ray'):
    pytest.skip("Ray is an extra: pip install 'ray>=2.40'", allow_module_level=True)


def start(path, tries=3):
    "Ray gives up where its processes are not there in 30 seconds, as on a machine with other work"
    import ray

    for left in reversed(range(tries)):
        try:
            return ray.init(
                address='local',
                num_cpus=2,
                include_dashboard=False,
                log_to_driver=False,
                logging_level='ERROR',
                object_store_memory=128 * 2**20,
                runtime_env=dict(env_vars=dict(PYTHONPATH=path)),
            )
        except Exception:
            ray.shutdown()
            if not left:
                raise


@pytest.fixture(scope='module')
def cluster():
    "One Ray for the tests of this file; its workers find the stubs, and what we find"
    import ray

    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get('PYTHONPATH', '')])
    os.environ.update(
        RAY_USAGE_STATS_ENABLED='0',
        RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO='0',
        RAY_worker_niceness='0',
        RAY_raylet_start_wait_time_s='240',
        RAY_agent_register_timeout_ms='240000',
    )
    start(path)
    yield ray
    ray.shutdown()


def test_the_same_tables_as_worker_processes_and_a_killed_worker(cluster, tmp_path):
    cs = [
        *[Stub(i) for i in range(8)],
        Stub(8, 'die once'),
        Stub(9, 'die'),
        Stub(10, 'disk once'),
        Stub(11, 'wrong'),
    ]
    said = []
    a = run_all(tmp_path / 'ray', cs, 2, 'cpu', backend='ray', retries=1, say=said.append)
    b = run_all(tmp_path / 'serial', cs, 1, 'cpu', retries=1)
    assert (
        sorted(a) == sorted(b)
        and len(a) == 2
        and any('in 2 attempts' in o for o in a)
        and any('wrong in two lines' in o for o in a)
    )
    for o in ('results.csv', 'origin.json'):
        assert (tmp_path / 'ray' / o).read_bytes() == (tmp_path / 'serial' / o).read_bytes()
    assert [attempts(tmp_path / 'ray' / 'runs', c) for c in cs] == [
        attempts(tmp_path / 'serial' / 'runs', c) for c in cs
    ] == [1] * 8 + [2, 2, 2, 1] and len(said) == 3
    assert cluster.is_initialized(), 'a Ray that was there is left running'


def test_a_real_run_is_the_same_bytes(cluster, tmp_path, tiny):
    from imbal_al.studies.learning_study import plan, run_study

    cs = plan(tiny, ('random', 'entropy'), (0.5,), 1, (0.1,))
    assert (
        run_study(tmp_path / 'ray', cs, 2, 'cpu', backend='ray')
        == []
        == run_study(tmp_path / 'serial', cs, 1, 'cpu')
    )
    for o in ('results.csv', 'picks.csv'):
        assert (tmp_path / 'ray' / o).read_bytes() == (tmp_path / 'serial' / o).read_bytes()


def test_an_address_without_ray_is_one_line(tmp_path):
    import ray

    if ray.is_initialized():
        ray.shutdown()
    with pytest.raises(InputError, match='cannot be reached at 127.0.0.1:1') as e:
        run_all(tmp_path, [Stub()], 1, 'cpu', backend='ray', address='127.0.0.1:1')
    assert '\n' not in str(e.value)
