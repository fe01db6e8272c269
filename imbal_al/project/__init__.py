"Your own images: label, train, deploy"

from imbal_al import face

__getattr__, __dir__, __all__ = face(
    __name__,
    {
        'annotations': 'cvat_xml coco_json read_export',
        'commands': 'register',
        'costs': 'Guided guide_costs',
        'deploy': 'write_onnx Exported export',
        'network': 'read_model',
        'predictor': 'Model open_model predict_folder',
        'queue': 'Report ingest as_annotations export_labels',
        'review': 'Session reviewer',
        'rounds': 'project_strategies Round next_round',
        'standing': 'Standing where project_costs curve_figure',
        'state': 'waiting release split_labels',
        'store': 'Settings Project open_project new read_label write_label read_mask labels',
    },
)
