"Your own images: label, train, deploy"

from imbal_al import face

__getattr__, __dir__, __all__ = face(
    __name__,
    {
        'annotations': 'cvat_xml coco_json',
        'begun': 'Round',
        'clicks': 'Click mask_of_clicks',
        'costs': 'guide_costs',
        'deploy': 'export',
        'exports': 'read_export',
        'intake': 'new',
        'label_files': 'export_labels',
        'labelled': 'labels',
        'predictor': 'Model open_model predict_folder',
        'queue': 'as_annotations',
        'review': 'Session reviewer',
        'rounds': 'next_round',
        'settings': 'Settings',
        'standing': 'where',
        'state': 'release',
        'store': 'open_project',
        'taken': 'ingest',
        'watch': 'Watch watch_line',
    },
)
