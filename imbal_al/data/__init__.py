"Images, masks and the pools made of them"

from imbal_al import face

__getattr__, __dir__, __all__ = face(
    __name__,
    {
        'catalog': 'load_source list_data check_source report_lines',
        'download': 'get_data',
        'images': 'read_image',
        'masks': 'decoder read_mask',
        'patches': 'windows open_store',
        'scenarios': 'make_scenario',
        'sources': 'Source data_root Download data_set folder_source',
        'synthetic': 'image dataset',
    },
)
