"fastai's TensorBoard callback on this project's learner, as the how-to page shows it"

import pytest

pytest.importorskip(
    'tensorboard', reason='the TensorBoard recipe needs an extra: pip install tensorboard'
)


def test_a_training_is_written_for_tensorboard(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from imbal_al.data.synthetic import dataset
    from imbal_al.networks.fixed_split import Parts, fit_curve, sgd_learner, tensorboard_callback
    from imbal_al.losses.registry import make_loss

    images, masks = dataset('leaves', 12, 32, seed=1, prevalence=0.9)
    make = lambda: sgd_learner(
        Parts(images, masks, range(8), range(8, 12), name='leaves'),
        make_loss('dibe'),
        weights=None,
        width=0.25,
        bs=4,
        steps=4,
        validations=2,
    )
    plain = fit_curve(make())
    learn = make()
    learn.add_cb(tensorboard_callback(tmp_path))
    rows = fit_curve(learn)
    assert repr(rows) == repr(plain)  # watching changes nothing
    seen = EventAccumulator(str(tmp_path))
    seen.Reload()
    of = lambda k: [(o.step, o.value) for o in seen.Scalars(k)]
    assert [s for s, _ in of('train_loss')] == [s for s, _ in of('lr')] == [1, 2, 3, 4]
    assert [s for s, _ in of('oii')] == [2, 4] and [v for _, v in of('oii')] == pytest.approx(
        [o['oii'] for o in rows], nan_ok=True
    )
