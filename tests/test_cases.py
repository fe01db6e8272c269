"""A test for every row of `shared/cases/README.md`, in its order, with the value that is right

Rows whose inputs can be made in a line or two make them; the others read `shared/cases` and skip without it.
The kinds behind the rows are tested with inputs of our own in the modules of their names."""

import json, os, re, resource, shutil, signal, subprocess, sys, warnings, zipfile
from pathlib import Path

import numpy as np, pytest
from PIL import Image
from typer.testing import CliRunner

from imbal_al.cli import app
from imbal_al.core import read_json, write_json
from imbal_al.data.catalog import load_source
from imbal_al.project.intake import new
from imbal_al.project.labelled import labels, read_mask, write_label
from imbal_al.project.state import is_held_out
from imbal_al.project.store import open_project
from test_pictures import run
from test_report import sound
from test_what_comes_out import call, masks, photo, table, write_bright

DATA = os.environ.get('IMBAL_AL_DATA')
CASES = Path(DATA).parent / 'cases' if DATA else Path(__file__).parents[2] / 'shared/cases'
README = CASES / 'README.md'


@pytest.fixture
def case(request, tmp_path):
    "A copy of the inputs of a row, named by the test"
    number = re.match('test_(f?[0-9]+)', request.function.__name__)[1]
    if not (CASES / number).is_dir():
        pytest.skip('shared/cases is not there')
    shutil.copytree(CASES / number, tmp_path / number, copy_function=shutil.copyfile)
    for folder in (tmp_path / number, *(tmp_path / number).rglob('*/')):
        folder.chmod(0o755)
    return tmp_path / number


def project(case, *words, images='camera'):
    "A project of a row's images, as the README says, and what was said"
    command = ('project', 'new', case / 'P', '--images', case / images, '--held-out', 0)
    size = () if '--window' in words else ('--window', 32)
    code, said = run(*command, *size, *words)
    assert code == 0, said
    return case / 'P', said


def ingest(p, export, *words):
    "Exit code and what was said"
    return run('ingest', p, export, *words)


def pixels(p):
    "image -> defect pixels of its label"
    found = open_project(p)
    return {found.row[id]['name']: int(read_mask(found, id).sum()) for id in labels(found)['id']}


ELSEWHERE = dict(  # Rows with several halves: where the others are
    f04=('test_pictures', 'test_labels_that_may_not_be_read_stop_every_command test_a_label_whose_rights_were_taken_stops'),
    f08=('test_what_comes_out', 'test_a_network_no_better_than_none_is_said test_a_damaged_guidance_is_not_none'),
    f09=('test_what_comes_out', 'test_what_the_machine_lacks_is_one_line test_a_full_disk_is_one_line'),
    f10=('test_what_comes_out', 'test_a_report_asks_nothing_of_the_network'),
    f11=('test_what_comes_out', 'test_a_flipped_bit_anywhere_is_said test_changed_metadata_is_one_line'),
    f12=('test_pictures', 'test_images_away_is_one_line'),
    f13=('test_pictures', 'test_a_label_is_written_without_listing_the_others'),
    f14=('test_pictures', 'test_odd_fields_are_one_line test_what_a_newer_version_has_written_is_kept'),
    f15=('test_what_comes_out', 'test_cells_that_a_spreadsheet_would_run_are_text test_what_a_killed_one_left_is_swept '
        'test_a_folder_that_was_moved_goes_on_and_another_one_is_refused test_names_are_shown_as_text_on_the_terminal'),
)


def test_every_row_has_a_test():
    have = {re.match('test_(f?[0-9]+)', name)[1] for name in globals() if re.match('test_f?[0-9]', name)}
    assert len(have | set(ELSEWHERE)) == 25 + 15
    for module, names in ELSEWHERE.values():
        there = (Path(__file__).parent / f'{module}.py').read_text()
        assert all(f'def {name}(' in there for name in names.split())
    if README.is_file():
        assert set(re.findall(r'^\| (f?[0-9]{2}) \|', README.read_text(), re.M)) == have | set(ELSEWHERE)


def asked(p, export, wanted, answer):
    "Taken as it is meant, or asked for in a line whose answer works"
    code, said = ingest(p, export)
    if code == 0:
        return pixels(p) == wanted
    assert code == 1 and '--mask-values' in said, said
    code, said = ingest(p, export, '--mask-values', answer)
    return code == 0 and pixels(p) == wanted


def test_01_a_void_border_is_no_defect(case):
    p, _ = project(case)
    assert ingest(p, case / 'masks')[0] == 0
    assert pixels(p) == {'part00.png': 180, 'part01.png': 180}


def test_02_class_numbers_and_stretched_classes_are_read_or_asked(case):
    p, _ = project(case)
    assert asked(p, case / 'masks', {f'part0{i}.png': 180 for i in range(3)}, 'nonzero')
    source = load_source(f'folder:{case}/camera:{case}/masks:nonzero')
    assert [int(source[i][1].sum()) for i in range(3)] == [180] * 3


def test_04_what_is_seen_of_a_transparent_mask(case):
    p, _ = project(case)
    assert ingest(p, case / 'masks')[0] == 0 and set(pixels(p).values()) == {180}
    source = load_source(f'folder:{case}/camera:{case}/masks')
    assert [int(source[i][1].sum()) for i in range(2)] == [180, 180]
    assert run('data', 'check', f'folder:{case}/camera:{case}/masks')[0] == 0


def test_05_holes_and_healthy_regions(case):
    p, _ = project(case)
    code, said = ingest(p, case / 'annotations.xml')
    assert pixels(p) == {'part00.png': 1040, 'part02.png': 360}
    assert 'background' in said.casefold() and 'part01.png' in said and 'no defect: ' in said


def test_07_the_next_days_pictures_under_the_same_names(tmp_path):
    "Exchanged, repaired, deleted: the table and the masks are those of the pictures that are there"
    model, day, out = write_bright(tmp_path / 'm.onnx'), tmp_path / 'day', tmp_path / 'o'
    photo(day / 'IMG_0.png', (3, 3))
    photo(day / 'IMG_1.png')
    whole = photo(day / 'IMG_2.png', (9, 9), (20, 20)).sum()
    kept = (day / 'IMG_2.png').read_bytes()
    (day / 'IMG_2.png').write_bytes(kept[:50])
    call('predict', model, day, '--out', out)
    assert table(out)['IMG_0.png']['defect_pixels'] == '16' and 'cannot be read' in table(out)['IMG_2.png']['error']
    photo(day / 'IMG_0.png')
    (day / 'IMG_1.png').unlink()
    (day / 'IMG_2.png').write_bytes(kept)
    photo(day / 'IMG_3.png', (5, 5))
    _, said = call('predict', model, day, '--out', out)
    found = {name: int(row['defect_pixels']) for name, row in table(out).items()}
    assert found == {'IMG_0.png': 0, 'IMG_2.png': whole, 'IMG_3.png': 16}
    assert masks(out) == ['IMG_0.png', 'IMG_2.png', 'IMG_3.png'] and ' gone from ' in said
    assert not np.asarray(Image.open(out / 'masks/IMG_0.png')).any()
    assert not any(row['error'] for row in table(out).values())


def test_08_a_second_days_folder_is_not_the_first(case):
    p, _ = project(case)
    assert ingest(p, case / 'masks')[0] == 0 and len(pixels(p)) == 4
    code, said = run('project', 'new', p, '--images', case / 'day2')
    assert code == 2 and 'holds 0 of the 4 labelled pictures' in said and len(pixels(p)) == 4


def test_09_a_labelled_picture_that_is_gone_costs_a_line(case):
    p, _ = project(case, '--steps', 1)
    assert ingest(p, case / 'masks')[0] == 0
    (case / 'camera/part01.png').unlink()
    code, said = run('next', p, '--budget', 1)
    assert code == 0 and '2 labels trained on' in said
    assert len([line for line in said.splitlines() if 'part01.png' in line]) == 1
    assert run('project', 'drop', p, 'part01.png')[0] == 0 and 'part01.png' not in pixels(p)


def test_11_a_latin_1_name_costs_a_line_and_the_rest_goes_on(tmp_path):
    day, model = tmp_path / 'day', write_bright(tmp_path / 'm.onnx')
    photo(day / 'ok.png', (3, 3))
    photo(tmp_path / 'masks/ok.png')
    shutil.copy(day / 'ok.png', os.fsencode(day) + b'/gr\xfcn.png')
    said = call('project', 'new', tmp_path / 'P', '--images', day, '--window', '32')
    said += call('predict', model, day, '--out', tmp_path / 'o')
    said += call('data', 'check', f'folder:{day}:{tmp_path}/masks')
    assert list(open_project(tmp_path / 'P').units['image']) == ['ok.png'] == list(table(tmp_path / 'o'))
    assert sum('is not UTF-8' in text for text in said) == 3


@pytest.mark.parametrize('name', ['coco_absolute', 'coco_prefix', 'ls_local', 'ls_upload'])
def test_13_the_tail_of_a_path_names_the_image(case, name):
    p, _ = project(case)
    code, said = ingest(p, case / f'{name}.json')
    assert code == 0 and '2 new' in said and len(pixels(p)) == 2


def test_14_what_stands_beside_a_shape_is_passed_over(case):
    p, _ = project(case)
    code, said = ingest(p, case / 'export.json')
    assert code == 0 and list(pixels(p).values()) == [280, 180, 180, 180]
    assert 'passed over beside the shapes' in said


def test_16_erased_to_nothing_and_no_defect_is_healthy(case):
    p, _ = project(case)
    assert ingest(p, case / 'export.json')[0] == 0 and pixels(p) == {'part00.png': 0}
    assert ingest(p, case / 'export.json', '--empty', 'healthy')[0] == 0
    assert pixels(p) == {'part00.png': 0, 'part01.png': 0}


def test_18_an_older_export_replaces_nothing(case):
    p, _ = project(case)
    assert ingest(p, case / '2026-02-10.json')[0] == 0
    code, said = ingest(p, case / '2026-01-10.json')
    found = open_project(p)
    (id,) = labels(found)['id']
    assert code == 0 and '1 older' in said and np.nonzero(read_mask(found, id))[1].min() == 40
    text = (case / '2026-02-10.json').read_text()
    late, early = ('2026-02-10T05:30:00-05:00', 50), ('2026-02-10T14:30:00+05:00', 40)
    for (at, x), state in ((late, 'changed'), (early, 'older')):
        moved = text.replace('2026-02-10T10:00:00Z', at).replace('"x": 62.5', f'"x": {x}')
        (case / 'zone.json').write_text(moved)
        assert f'1 {state}' in ingest(p, case / 'zone.json')[1]


def test_19_colour_of_12_bits_is_as_bright_as_grey(case):
    p, said = project(case)
    found = open_project(p)
    assert found.settings.bits == 12 and '12 of 16 bits' in said
    assert {int(found.read(unit).max()) for unit in found.row.values()} == {255}


def test_21_a_file_of_three_pages_is_said(case):
    _, said = project(case)
    assert 'stack.tif holds 3 pictures (pages or frames)' in said


def test_22_coco_as_trainers_take_it(case):
    from pycocotools.coco import COCO

    p, _ = project(case)
    ingest(p, case / 'masks')
    assert run('project', 'labels', p, case / 'out.json', '--form', 'coco')[0] == 0
    coco = COCO(str(case / 'out.json'))
    (one,) = coco.loadAnns(coco.getAnnIds())
    assert one['iscrowd'] == 0 and len(coco.imgs) == 2
    assert coco.annToMask(one).sum() == pixels(p)['part00.png'] and pixels(p)['part01.png'] == 0


def test_23_exported_masks_have_the_images_names(case):
    p, _ = project(case)
    ingest(p, case / 'masks')
    assert run('project', 'labels', p, case / 'out')[0] == 0
    source = f'folder:{case}/camera:{case}/out'
    assert run('data', 'check', source)[0] == 0
    for name in ('a.png', 'sub/b.png'):
        assert np.array_equal(Image.open(case / 'out' / name), Image.open(case / 'masks' / name))
    assert len(load_source(source)) == 2


def test_24_a_folder_that_is_a_link_is_followed(case):
    os.symlink(case / 'line2', case / 'camera/line2')
    p, _ = project(case)
    assert list(open_project(p).units['image']) == ['line2/x.png', 'part00.png']
    assert run('predict', write_bright(case / 'm.onnx'), case / 'camera', '--out', case / 'o')[0] == 0
    assert set(table(case / 'o')) == {'line2/x.png', 'part00.png'}


def test_25_equal_pictures_are_in_one_group(case):
    code, said = run('project', 'new', case / 'P', '--images', case / 'camera', '--window', 32, '--held-out', 0.5)
    p = open_project(case / 'P')
    assert code == 0 and '10 are there under another name' in said
    held = {image: is_held_out(p, image) for image in p.units['image']}
    assert all(held[f'a{i:02d}.png'] == held[f'a{i:02d}_copy.png'] for i in range(10)) and len(set(held.values())) == 2
    for name in held:
        photo(case / 'masks' / name, size=Image.open(case / 'camera' / name).size[::-1])
    said = run('data', 'check', f'folder:{case}/camera:{case}/masks')[1]
    assert 'no problems' not in said and 'copy' in said


def test_26_masks_of_turned_photographs(case):
    "As the camera stores them: turned with the picture, or asked where both fit"
    p, _ = project(case)
    stored = np.asarray(Image.open(case / 'masks/orientation1.png')) > 0
    code, said = ingest(p, case / 'masks')
    assert code == 1 and 'EXIF orientation' in said and "'stored'" in said
    assert ingest(p, case / 'masks', '--mask-values', 'stored')[0] == 0
    found = open_project(p)
    turned = {1: lambda a: a, 3: lambda a: a[::-1, ::-1], 6: lambda a: np.rot90(a, -1)}
    for id in labels(found)['id']:
        way = turned[int(found.row[id]['image'][11])]
        assert np.array_equal(read_mask(found, id) > 0, way(stored))
    assert len(labels(found)) == 3
    assert 'EXIF orientation' in run('data', 'check', f'folder:{case}/camera:{case}/masks')[1]


@pytest.mark.slow
def test_27_a_line_scan_is_read_in_windows(case):
    p, said = project(case, '--unit', 'window', '--window', 512, '--overlap', 64)
    assert '769 windows of 2 images' in said
    found = open_project(p)
    unit = next(one for one in found.row.values() if one['x'] > 9000)
    assert found.read(unit).shape[:2] == (512, 512)


def test_28_odd_coco_costs_its_line(case):
    p, _ = project(case)
    code, said = ingest(p, case / 'string_ids.json')
    assert code == 0 and '1 new' in said
    code, said = ingest(p, case / 'orphan.json')
    assert code == 0 and '1 same' in said and '1 of its annotations' in said and 'Error' not in said
    assert list(pixels(p)) == ['part00.png']


@pytest.mark.parametrize('name', ['labelme', 'yolo', 'min.json'])
def test_30_other_forms_are_taken(case, name):
    p, _ = project(case)
    code, said = ingest(p, case / name)
    assert code == 0 and pixels(p) == {'part00.png': 180}


def test_32_mask_files_of_other_names_and_formats(case):
    p, _ = project(case)
    assert ingest(p, case / 'masks')[0] == 0 and pixels(p) == {f'part0{i}.png': 180 for i in range(4)}


def test_33_our_own_masks_inside_the_photos_are_no_input(tmp_path):
    model, photos = write_bright(tmp_path / 'm.onnx'), tmp_path / 'photos'
    for i in range(3):
        photo(photos / f'{i}.png', (3, 3 + i))
    for _ in range(2):
        assert run('predict', model, photos, '--out', photos / 'found')[0] == 0
        assert sorted(table(photos / 'found')) == ['0.png', '1.png', '2.png'] == masks(photos / 'found')


def test_36_a_line_separator_in_a_name(tmp_path):
    name = 'a\u2028b.png'
    photo(tmp_path / 'i' / name, (3, 3))
    assert run('predict', write_bright(tmp_path / 'm.onnx'), tmp_path / 'i', '--out', tmp_path / 'o')[0] == 0
    assert list(table(tmp_path / 'o')) == [name] == masks(tmp_path / 'o')


@pytest.fixture
def one(tmp_path):
    "The project of one image of 40 x 32 that f01 and f06 speak of"
    photo(tmp_path / 'camera/0.png', (3, 3), size=(32, 40))
    return project(tmp_path)[0]


@pytest.mark.parametrize('name', ['cvat_wrap.xml', 'coco_wrap.json', 'coco_inf.json', 'ls_inf.json'])
def test_f01_run_lengths_that_wrap_are_refused(case, one, name):
    code, said = ingest(one, case / name)
    assert code == 1 and '1 refused' in said and len(said.splitlines()) == 2 and not pixels(one)


def test_f02_two_predictions_into_one_folder(tmp_path):
    "The second starts before the first has its first image: refused, and the first is whole"
    photos, out, model = tmp_path / 'photos', tmp_path / 'o', write_bright(tmp_path / 'm.onnx')
    for i in range(6):
        photo(photos / f'{i}.png', (3, 3), size=(900, 900))
    code = 'from imbal_al.cli import main; main()'
    words = [sys.executable, '-c', code, 'predict', model, photos, '--out', out]
    env = dict(os.environ, PYTHONPATH=str(Path(__file__).parent.parent), OMP_NUM_THREADS='1')
    two = [subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env) for _ in '12']
    said = [one.communicate(timeout=120)[1] for one in two]
    codes = sorted(one.returncode for one in two)
    assert codes in ([0, 2], [0, 0]), said
    assert codes == [0, 0] or any('held by process' in text and len(text.splitlines()) == 1 for text in said)
    assert (out / 'table.part.csv').read_text().count('image,verdict') == 1
    call('predict', model, photos, '--out', out)
    assert len(table(out)) == 6 == len(masks(out))


def test_f03_new_again_reads_each_picture_once(tmp_path, monkeypatch):
    "Its time is that of a look at each file: what is known is not read again, and no pair of units is compared"
    from imbal_al.project import pictures

    for i in range(40):
        photo(tmp_path / f'i/{i}.png', (i % 30, i // 30))
    new(tmp_path / 'P', tmp_path / 'i', window=32, overlap=0)
    monkeypatch.setattr(pictures, 'content_of', None)
    made = new(tmp_path / 'P', tmp_path / 'i')
    assert len(made.units) == 40 and made.notes == []


def test_f04_a_label_that_cannot_be_read_stops(one, tmp_path):
    "Of no length here; of another owner in test_pictures"
    p = open_project(one)
    write_label(p, p.units['id'][0], np.ones((32, 40)))
    path = next((one / 'labels').glob('*.json'))
    path.write_bytes(b'')
    photo(tmp_path / 'm/0.png', (3, 3), size=(32, 40))
    for words in (('next', one), ('project', 'status', one), ('ingest', one, tmp_path / 'm', '--mask-values', 'over127')):
        code, said = run(*words)
        assert code == 2 and path.name in said and path.read_bytes() == b'' and len(said.splitlines()) == 1


def test_f05_remedies_work(one, tmp_path):
    "A mask that was emptied comes back with its export; a table of units that is lost is made again"
    p, export = open_project(one), tmp_path / 'm'
    export.mkdir()
    Image.fromarray(np.eye(32, 40, dtype=np.uint8) * 255).save(export / '0.png')
    assert ingest(one, export)[0] == 0
    next((one / 'labels').glob('*.png')).write_bytes(b'')
    assert 'ingest the export' in run('project', 'labels', one, tmp_path / 'x')[1]
    assert ingest(one, export)[0] == 0 and pixels(one) == {'0.png': 32}
    next(one.glob('units-*.csv')).unlink()
    code, said = run('project', 'status', one)
    assert code == 2 and 'imbal-al project new' in said
    assert run('project', 'new', one, '--images', p.images)[0] == 0 and pixels(one) == {'0.png': 32}


def forked(path, limit, size, *words):
    "A command in a process of its own that may use no more than `size` of something: exit code and what was said"
    pid = os.fork()
    if not pid:
        sys.dont_write_bytecode = True  # A module's cache that is cut off would be read by all who come later
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(limit, (size, resource.getrlimit(limit)[1]))
        done = CliRunner().invoke(app, [str(word) for word in words])
        resource.setrlimit(limit, (resource.getrlimit(limit)[1],) * 2)
        odd = '' if isinstance(done.exception, (SystemExit, type(None))) else f'Traceback {done.exception!r}'
        path.write_text(done.output + odd)
        os._exit(done.exit_code)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return code, path.read_text() if path.exists() else ''


def test_f06_a_small_archive_of_a_large_mask_is_refused_by_its_header(case, one):
    "Of 41 megapixels no copy is made: there is room for 30 MB more than what this process has"
    here = int(re.search(r'VmSize:\s*([0-9]+)', Path('/proc/self/status').read_text())[1]) << 10
    code, said = forked(case / 'said', resource.RLIMIT_AS, here + (30 << 20), 'ingest', one, case / 'voc.zip')
    assert code == 1 and '0.png is 40 x 32 pixels' in said and not pixels(one)


@pytest.mark.parametrize('name', ['a\nb.png', 'a\rb.png', 'x' * 242 + '.png', 'x' * 251 + '.png'])
def test_f07_odd_names_stop_nothing(tmp_path, name):
    photo(tmp_path / 'camera/ok.png', (3, 3))
    photo(tmp_path / 'camera' / name, (5, 5))
    p, said = project(tmp_path, '--steps', 1)
    assert run('next', p, '--budget', 2)[0] == 0
    assert run('predict', write_bright(tmp_path / 'm.onnx'), tmp_path / 'camera', '--out', tmp_path / 'o')[0] == 0
    is_control = '\n' in name or '\r' in name
    assert set(table(tmp_path / 'o')) == {'ok.png'} | (set() if is_control else {name})
    assert said.count('its name') == is_control


@pytest.fixture
def labelled(tmp_path):
    "A project of six images, four of them labelled"
    for i in range(6):
        photo(tmp_path / f'camera/{i}.png', (3, 3 + i), size=(32, 40))
        (tmp_path / 'm').mkdir(exist_ok=True)
    for i in range(4):
        Image.fromarray(np.eye(32, 40, i, dtype=np.uint8) * 255).save(tmp_path / f'm/{i}.png')
    p = project(tmp_path, '--steps', 1)[0]
    assert ingest(p, tmp_path / 'm')[0] == 0
    return p


FULL = dict(
    new=('project', 'new', 'Q', '--images', 'camera', '--window', 32),
    again=('project', 'new', 'P', '--images', 'camera'),
    set=('project', 'set', 'P', 'steps=2'),
    drop=('project', 'drop', 'P', '5.png'),
    ingest=('ingest', 'P', 'more'),
    labels=('project', 'labels', 'P', 'out.json', '--form', 'coco'),
    next=('next', 'P', '--budget', 1, '--device', 'cpu'),
)


@pytest.mark.parametrize('name', FULL)
def test_f09_a_full_disk_is_one_line_and_nothing_is_lost(labelled, tmp_path, monkeypatch, name):
    "A limit on the size of a file, of 40 bytes, stands for the end of the disk"
    monkeypatch.chdir(tmp_path)
    photo(tmp_path / 'camera/7.png', (9, 9), size=(32, 40))
    photo(tmp_path / 'more/0.png')
    (tmp_path / 'more/0.png').unlink()
    Image.fromarray(np.eye(32, 40, dtype=np.uint8)[::-1] * 255).save(tmp_path / 'more/0.png')
    before = pixels(labelled)
    code, said = forked(tmp_path / 'said', resource.RLIMIT_FSIZE, 40, *FULL[name])
    assert code == 2 and 'File too large' in said and len(said.splitlines()) == 1, said
    assert pixels(labelled) == before and not list(labelled.rglob('*.tmp'))
    code, said = run(*FULL[name])
    assert code == 0, said


def test_f10_a_study_from_elsewhere_loads_nothing(tmp_path, tiny):
    "Words in its rows that would load a picture are words in its report"
    from imbal_al.results.report import write_report
    from imbal_al.studies.learning_study import run_study

    assert run_study(tmp_path / 's', [tiny], workers=0) == []
    path = next((tmp_path / 's').rglob('result.json'))
    result = read_json(path)
    for row in result['rows']:
        row |= dict(strategy='![x](http://h/x.png)<img src=//h/y>', loss='![x](http://h/x.png)')
    write_json(path, result)
    text = sound(write_report(tmp_path / 's'))
    assert "default-src 'none'; img-src data:" in text and 'src=//h/y' in text


def test_f15_a_pattern_that_never_ends_is_refused(tmp_path):
    photo(tmp_path / 'i' / ('a' * 40 + 'b.png'))
    photo(tmp_path / 'i/c.png', (3, 3))
    words = ('project', 'new', tmp_path / 'P', '--images', tmp_path / 'i', '--group-by')
    code, said = run(*words, '(a+)+$')
    assert code == 2 and 'comes to no end' in said and len(said.splitlines()) == 1 and not (tmp_path / 'P').exists()
    assert run(*words, '(a+|c)')[0] == 0


# --- Also seen

SQUARE = [(12.0, 10.0), (30.0, 10.0), (30.0, 20.0), (12.0, 20.0)]
FORMS = ['labelstudio', 'coco', 'cvat', 'labelme', 'yolo']


def drawn(path, form, points, size=(40, 32), name='0.png', label='defect'):
    "One polygon on one image of (width, height), as each of the tools writes it"
    (w, h), flat = size, [number for point in points for number in point]
    shares = [[100 * x / w, 100 * y / h] for x, y in points]
    if form == 'labelstudio':
        value = dict(points=shares, closed=True, polygonlabels=[label])
        shape = dict(type='polygonlabels', original_width=w, original_height=h, value=value)
        text = json.dumps([dict(data=dict(image=name, name=name), annotations=[dict(result=[shape])])])
    elif form == 'coco':
        text = json.dumps(
            dict(
                images=[dict(id=1, file_name=name, width=w, height=h)],
                categories=[dict(id=1, name=label)],
                annotations=[dict(id=1, image_id=1, category_id=1, iscrowd=0, segmentation=[flat])],
            )
        )
    elif form == 'cvat':
        corners = ';'.join(f'{x},{y}' for x, y in points)
        shape = f'<polygon label="{label}" points="{corners}" z_order="0"/>'
        text = f'<annotations><image id="0" name="{name}" width="{w}" height="{h}">{shape}</image></annotations>'
    elif form == 'labelme':
        shape = dict(label=label, points=points, shape_type='polygon')
        text = json.dumps(dict(shapes=[shape], imagePath=name, imageHeight=h, imageWidth=w))
    else:
        text = ' '.join(map(str, [0, *[number / 100 for share in shares for number in share]]))
    ending = dict(cvat='xml', yolo='txt').get(form, 'json')
    path.mkdir(exist_ok=True)
    at = path / f'{name[:-4]}.{ending}'
    at.write_text(text)
    return at


@pytest.mark.parametrize('form', FORMS)
def test_also_a_polygon_is_the_same_pixels_in_every_reader(one, tmp_path, form):
    "Those whose centre lies in it, by hand and by a test of each centre"
    points = [(3.2, 4.7), (30.1, 6.3), (22.0, 28.9), (9.5, 19.6)]
    inside = np.zeros((32, 40), bool)
    for y in range(32):
        for x in range(40):
            sides = [
                (bx - ax) * (y + 0.5 - ay) - (by - ay) * (x + 0.5 - ax)
                for (ax, ay), (bx, by) in zip(points, points[1:] + points[:1])
            ]
            inside[y, x] = min(sides) > 0
    assert ingest(one, drawn(tmp_path / 'e', form, points))[0] == 0
    found = open_project(one)
    assert np.array_equal(read_mask(found, labels(found)['id'][0]) > 0, inside)


@pytest.mark.parametrize('form', FORMS)
def test_also_a_polygon_of_two_points_is_the_line_it_is(one, tmp_path, form):
    code, said = ingest(one, drawn(tmp_path / 'e', form, [(5.5, 9.5), (20.5, 9.5)]))
    if code == 0:
        assert pixels(one) == {'0.png': 16}
    else:
        assert not pixels(one) and '0.png' in said


@pytest.mark.parametrize('word', ['defect', 'unsure'])
@pytest.mark.parametrize('form', ['labelstudio', 'cvat'])
def test_also_a_word_without_a_shape_is_not_healthy(one, tmp_path, form, word):
    if form == 'cvat':
        tag = f'<tag label="{word}"/>'
        text = f'<annotations><image id="0" name="0.png" width="40" height="32">{tag}</image></annotations>'
    else:
        choice = dict(type='choices', from_name='x', to_name='image', value=dict(choices=[word]))
        text = json.dumps([dict(data=dict(image='0.png'), annotations=[dict(result=[choice])])])
    export = tmp_path / f'e.{"xml" if form == "cvat" else "json"}'
    export.write_text(text)
    said = ingest(one, export, '--empty', 'healthy')[1]
    assert not pixels(one) and repr(word) in said and 'draw it' in said


def test_also_no_defect_in_a_coloured_mask(one, tmp_path):
    "CVAT's segmentation mask: `ignore`, `Background` and the colour of void"
    colours = np.zeros((32, 40, 3), np.uint8)
    colours[:8] = 1, 2, 3
    colours[8:16] = 9, 9, 9
    colours[16:20] = 224, 224, 192
    colours[20:22] = 250, 50, 83
    Image.fromarray(colours).save(tmp_path / 'm.png')
    with zipfile.ZipFile(tmp_path / 'v.zip', 'w') as z:
        z.write(tmp_path / 'm.png', 'SegmentationClass/0.png')
        z.writestr('labelmap.txt', '# n\nBackground:9,9,9::\nignore:1,2,3::\nrust:250,50,83::\n')
    assert ingest(one, tmp_path / 'v.zip')[0] == 0 and pixels(one) == {'0.png': 80}


def test_also_full_size_masks_for_a_project_of_windows(tmp_path):
    photo(tmp_path / 'camera/a.png', (3, 3), size=(64, 96))
    p, _ = project(tmp_path, '--unit', 'window', '--overlap', 0)
    mask = np.zeros((64, 96), np.uint8)
    mask[20:40, 30:70] = 255
    (tmp_path / 'm').mkdir()
    Image.fromarray(mask).save(tmp_path / 'm/a.png')
    code, said = ingest(p, tmp_path / 'm')
    assert code == 0 and '6 new' in said and sum(pixels(p).values()) == 20 * 40


def test_also_a_picture_of_100_megapixels_brings_no_raw_warning(tmp_path):
    photo(tmp_path / 'camera/a.png', (3, 3))
    Image.new('1', (10_000, 10_000)).save(tmp_path / 'camera/big.png')
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        p, said = project(tmp_path, '--unit', 'window', '--window', 512)
    assert 'Warning' not in said and open_project(p).units['image'].nunique() == 2


def test_also_a_whole_mvtec_folder(tmp_path):
    for folder in ('train/good', 'test/good', 'test/hole'):
        photo(tmp_path / f'camera/{folder}/000.png', (3, len(folder)))
    photo(tmp_path / 'camera/ground_truth/hole/000_mask.png', size=(40, 50))
    Image.fromarray(np.eye(40, 50, dtype=np.uint8) * 255).save(tmp_path / 'camera/ground_truth/hole/000_mask.png')
    p, said = project(tmp_path)
    assert sorted(open_project(p).units['image']) == ['test/good/000.png', 'test/hole/000.png', 'train/good/000.png']
    assert '000_mask.png is the mask of test/hole/000.png' in said
    assert ingest(p, tmp_path / 'camera')[0] == 0 and pixels(p) == {'test/hole/000.png': 40}
