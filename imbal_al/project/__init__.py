"Your own images: label, train, deploy"

from imbal_al import face

__getattr__, __dir__, __all__ = face(
    __name__,
    {
        'annotations': 'cvat_xml coco_json',
        'changes': 'change',
        'costs': 'Guided guide_costs',
        'deploy': 'export',
        'exports': 'read_export',
        'kinds': 'read_kinds',
        'predictor': 'Model open_model predict_folder',
        'queue': 'ingest as_annotations export_labels',
        'review': 'Session reviewer',
        'rounds': 'Round next_round',
        'standing': 'Standing where curve_figure',
        'state': 'waiting release',
        'store': 'Settings open_project new read_label write_label read_mask labels',
    },
)
