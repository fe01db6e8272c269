"The losses of both papers, and the search for the weight of misses"

from imbal_al import face

__getattr__, __dir__, __all__ = face(
    __name__,
    {
        'compound': (
            'CompoundLoss ComboLoss ExpLogLoss HybridFocalLoss UnifiedFocalLoss DIBELoss '
            'PaperComboLoss'
        ),
        'guidance': 'candidates next_candidate Guidance guide grid compare remembered trace_figure',
        'names': 'LOSS_NAMES VARIANTS loss_takes',
        'numerics': 'Pixels as_pixels Wrong focal_curve Weights Job apply_job Index',
        'pixel': 'REDUCTIONS SegLoss PixelLoss BCELoss WBCELoss FocalLoss DIBEDisLoss',
        'region': 'EXPONENTS RegionLoss DiceLoss TverskyLoss FocalTverskyLoss DIBERegLoss',
        'registry': 'LOSSES make_loss named_loss forget_loss',
    },
)
