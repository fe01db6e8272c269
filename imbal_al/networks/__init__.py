"Networks: made, trained, looked through"

from imbal_al import face

__getattr__, __dir__, __all__ = face(
    __name__,
    {
        'device': 'DeviceData',
        'features': 'load_encoder encode keep_features read_features',
        'fixed_split': 'Parts sgd_learner fit_curve tensorboard_callback',
        'learner': 'make_learner fit',
        'models': 'ARCHS SegNet create_model',
        'predict': 'network',
        'scoring': 'score embeddings',
        'uncertainty': 'measure',
    },
)
