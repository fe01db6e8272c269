"Networks: made, trained, looked through"

from imbal_al import face

__getattr__, __dir__, __all__ = face(
    __name__,
    {
        'batches': 'Batches MixedBatches',
        'device': 'DeviceData choose_precision',
        'fixed_split': 'Parts sgd_learner fit_curve tensorboard_callback',
        'learner': 'make_learner Converged fit measured_precision',
        'models': 'ARCHS encoder_stats lite0_state_dict SegNet vgg16_state_dict create_model',
        'predict': 'network',
        'scoring': 'Scores score embeddings embed_training_mode',
        'tiling': 'Windows windows_of',
        'uncertainty': 'FIELDS badge_embedding mutual_information measure',
    },
)
