"The faces of the wings: what they list is there, is public in its room, and loads late"

import importlib
import subprocess
import sys

import pytest

import imbal_al

WINGS = 'data measure losses strategies runs networks studies project results live cli'.split()


@pytest.mark.parametrize('wing', WINGS)
def test_a_face_lists_what_its_rooms_call_public(wing):
    face = importlib.import_module(f'imbal_al.{wing}')
    assert face.__all__ and sorted(face.__all__) == dir(face)
    assert len(set(face.__all__)) == len(face.__all__)
    for name in face.__all__:
        value = getattr(face, name)
        room = importlib.import_module(getattr(value, '__module__', None) or f'imbal_al.{wing}')
        if room.__name__.startswith(f'imbal_al.{wing}.'):
            assert name in room.__all__ and getattr(room, name) is value, name


@pytest.mark.parametrize('wing', WINGS)
def test_no_name_of_a_face_is_hidden_by_a_room(wing):
    "Once a room is loaded the package has it as an attribute, and that would win"
    face = importlib.import_module(f'imbal_al.{wing}')
    for name in face.__all__:
        value = getattr(face, name)
        assert not isinstance(value, type(imbal_al)), f'imbal_al.{wing}.{name} is a room'


def test_a_face_loads_nothing_heavy():
    heavy = "{'torch', 'matplotlib', 'pandas', 'scipy'}"
    code = f"import sys, {', '.join(f'imbal_al.{w}' for w in WINGS)}; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == 'set()'


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'imbal_al.losses' has no attribute 'DiceLos'"):
        importlib.import_module('imbal_al.losses').DiceLos


def test_a_face_lists_no_name_twice():
    from imbal_al import face

    with pytest.raises(ImportError, match='lists a name twice'):
        face('imbal_al.measure', {'metrics': 'f1 oii', 'oii': 'oii iou'})
