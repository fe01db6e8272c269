"The losses of both papers, and the search for the weight of misses"

from imbal_al import face

__getattr__, __dir__, __all__ = face(
    __name__,
    {
        'compound': (
            'CompoundLoss ComboLoss ExpLogLoss HybridFocalLoss UnifiedFocalLoss DIBELoss '
            'PaperComboLoss'
        ),
        'guidance': 'candidates Guidance guide grid compare trace_figure',
        'names': 'LOSS_NAMES loss_takes',
        'pixel': 'SegLoss PixelLoss BCELoss WBCELoss FocalLoss DIBEDisLoss',
        'region': 'RegionLoss DiceLoss TverskyLoss FocalTverskyLoss DIBERegLoss',
        'registry': 'LOSSES make_loss',
    },
)
