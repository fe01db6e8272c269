"""Losses for rare defects, and the weight of misses found by output imbalance

`imbal_al.losses.names` knows what each is called and which settings it takes; `make_loss` makes one.
Importing this package loads no torch: a room is loaded when one of its names is first asked for."""

from imbal_al import face

__getattr__, __dir__, __all__ = face(__name__, dict(
    names='LOSS_NAMES VARIANTS loss_takes',
    registry='LOSSES make_loss',
    pixel='REDUCTIONS SegLoss PixelLoss BCELoss WBCELoss FocalLoss DIBEDisLoss',
    region='EXPONENTS RegionLoss DiceLoss TverskyLoss FocalTverskyLoss DIBERegLoss',
    compound='CompoundLoss ComboLoss ExpLogLoss HybridFocalLoss UnifiedFocalLoss DIBELoss PaperComboLoss',
    guidance='Guidance candidates compare grid guide next_candidate remembered trace_figure',
    numerics='Index Job Pixels Weights Wrong apply_job as_pixels focal_curve'))
