"""Datumaro (CVAT's library of formats) and Label Studio's own converter, run by the Python of `make tools`

`write FOLDER` turns `truth.npz` into their exports, `read FOLDER` turns our exports into `read.npz`."""

import json, sys
from pathlib import Path

import datumaro as dm, numpy as np
from datumaro.util.mask_tools import rles_to_mask
from label_studio_sdk.converter import brush

FORMS = ('cvat', 'coco_instances', 'voc_segmentation')

OURS = dict(cvat='ours/cvat.xml', coco_instances='ours/annotations/instances_day.json')


def items(truth):
    "Masks, then polygons, as datumaro has them"
    h, w = truth['masks'].shape[1:]
    picture = dm.Image.from_numpy(np.zeros((h, w, 3), np.uint8))
    for i, mask in enumerate(truth['masks']):
        drawn = [dm.Mask(mask, label=1, id=i + 1)] if mask.any() else []
        yield dm.DatasetItem(id=f'line/mask {i}', subset='day', media=picture, annotations=drawn)
    for i, points in enumerate(truth['polygons']):
        drawn = [dm.Polygon(points.ravel().tolist(), label=1, id=1000 + i)]
        yield dm.DatasetItem(id=f'line/polygon {i}', subset='day', media=picture, annotations=drawn)


def write(folder):
    truth = dict(np.load(folder / 'truth.npz'))
    made = dm.Dataset.from_iterable(list(items(truth)), categories=['background', 'scratch'])
    for form in FORMS:
        made.export(str(folder / form), form, save_media=True)
    h, w = truth['masks'].shape[1:]
    runs = [brush.mask2rle(mask.astype(np.uint8) * 255) for mask in truth['masks']]
    polygons = [rles_to_mask([points.ravel().tolist()], w, h) for points in truth['polygons']]
    (folder / 'brush.json').write_text(json.dumps([[int(byte) for byte in one] for one in runs]))
    np.savez(folder / 'polygons.npz', polygons=np.array(polygons) > 0)


def whole(item, shape):
    "The pixels of all of an item's masks"
    out = np.zeros(shape, bool)
    for one in item.annotations:
        if one.type == dm.AnnotationType.mask:
            out |= one.image > 0
    return out


def read(folder):
    names = json.loads((folder / 'names.json').read_text())
    h, w = names['shape']
    out = {}
    for form, path in OURS.items():
        found = {item.id: whole(item, (h, w)) for item in dm.Dataset.import_from(str(folder / path), form)}
        out[form] = np.array([found[name] for name in names['stems']])
    runs = json.loads((folder / 'ours/brush.json').read_text())
    opaque = [brush.decode_rle(one).reshape(h, w, 4)[..., 3] > 127 for one in runs]
    np.savez(folder / 'read.npz', brush=np.array(opaque), **out)


if __name__ == '__main__':
    dict(write=write, read=read)[sys.argv[1]](Path(sys.argv[2]))
