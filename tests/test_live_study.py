"The same labels by files and live: forty of them, and what a comparison must see"

import numpy as np
import pytest
from PIL import Image

from imbal_al.core import InputError, read_json, write_json
from imbal_al.dev.live_study import LiveScale, compared, live_study
from imbal_al.project.labelled import labels, read_mask, write_label
from imbal_al.project.state import rounds
from imbal_al.project.store import open_project

pytestmark = pytest.mark.slow  # Two projects of five rounds

SMALL = LiveScale(labels=40, budget=10, photographs=60, side=32, steps=2, pi=0.4)


@pytest.fixture(scope='module')
def studied(tmp_path_factory):
    work = tmp_path_factory.mktemp('study')
    return work, *live_study(work, SMALL, lambda line: None)


def test_forty_labels_by_files_and_live_are_the_same(studied):
    work, same, clock = studied
    assert same.rounds == 4 and same.labels == 40 and same.networks >= 3
    assert all(getattr(same, name) for name in ('queues', 'weights', 'masks', 'verdict', 'predictions'))
    for name in ('files', 'live'):
        p = open_project(work / name)
        assert len(labels(p)) == 40
        for id in labels(p)['id']:
            truth = np.asarray(Image.open(work / 'truth' / p.row[id]['name'])) > 0
            assert (read_mask(p, id) == truth).all()


def test_the_clock_counts_what_was_labelled(studied):
    "3 s and 60 s; by files two minutes more a round"
    work, _, clock = studied
    p = open_project(work / 'files')
    faulty = int(labels(p)['faulty'].sum())
    assert clock['labelling'] == round((60 * faulty + 3 * (40 - faulty)) / 60, 1)
    assert clock['files'] - clock['live'] == pytest.approx(8, abs=0.11)
    assert clock['labelling'] <= clock['ahead'] <= clock['live']


def test_a_folder_with_projects_is_refused(studied):
    with pytest.raises(InputError, match='holds projects already'):
        live_study(studied[0], SMALL)


def test_a_difference_is_seen(studied):
    "A mask and an order of picks, in one of the two"
    work, same, _ = studied
    p = open_project(work / 'live')
    picks = rounds(p)[1] / 'queue.json'
    kept = read_json(picks)
    write_json(picks, dict(picks=kept['picks'][::-1]))
    id = labels(p)['id'].iloc[0]
    write_label(p, id, 1 - read_mask(p, id), 'another', '2030-01-01T00:00:00Z', revert=True)
    found = compared(work, SMALL)
    assert (found.queues, found.masks, found.weights) == (False, False, True)
