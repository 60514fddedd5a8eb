"""Damaged files of strangers: no crash, no code, no unbounded memory, no way out of the data."""
import os

import bad_files
import damage
import pytest
from bad_files import contents
from hypothesis import given, settings
from hypothesis import strategies as st

from swinv2_mm.utils.faults import Fault, image_fault, still

CASES = {'COCO annotations': 100, 'video in the check': 100}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
    | st.sampled_from(['../x', '/x', 'a.jpg']),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(
        st.sampled_from(['id', 'file_name', 'width', 'height', 'image_id', 'category_id', 'bbox',
                         'area', 'segmentation', 'name', 'size', 'counts']), inner, max_size=6),
    max_leaves=20)
ANY = settings(max_examples=100, deadline=None, derandomize=True)


@pytest.mark.parametrize('name', damage.TARGETS)
def test_damaged_files_give_a_sentence_or_what_is_sound(name, tmp_path):
    assert damage.lost(name, range(CASES.get(name, 400)), tmp_path) == []


def test_a_target_that_goes_wrong_would_be_seen(monkeypatch, tmp_path):
    """The same machinery, with targets that crash, take memory, say too much, or run code."""
    monkeypatch.setitem(damage.TARGETS, 'bad', lambda folder, number: {
        3: lambda: os.kill(os.getpid(), 9), 5: lambda: len(bytearray(1 << 33)) and None,
        7: lambda: damage.told(ValueError('two\nlines that are long enough')),
        8: lambda: damage.told(IndexError('list index out of range'))}.get(number, lambda: None)())
    found = dict(damage.lost('bad', range(20), tmp_path))
    assert sorted(found) == [3, 5, 7, 8]
    assert 'status -9' in found[3] and 'takes more than 1024 MB' in found[5]
    assert 'several lines' in found[7] and 'IndexError' in found[8]


@given(st.dictionaries(st.sampled_from(['images', 'annotations', 'categories']),
                       st.lists(JSON, max_size=4)))
@ANY
def test_any_json_of_lists_gives_findings_of_one_line(found):
    from swinv2_mm.datasets.checks.boxes import check_entries
    content = contents()
    for key, entries in found.items():
        content[key] += entries
    for finding in check_entries(content, 'x.json', '/data/train', '/data'):
        assert finding.level in ('error', 'warning') and '\n' not in finding.text
        assert len(finding.text) < 300


@given(st.lists(st.sampled_from(['..', '.', 'a', 'b.jpg', '', '~', '\0', '...', 'é']), min_size=1),
       st.booleans(), st.sampled_from(['/data', '/data/train', '', 'data', 'data/../more/']))
@ANY
def test_a_name_that_is_let_through_stays_inside(parts, absolute, root):
    from swinv2_mm.datasets.checks.paths import leads_out
    name, folder = ('/' if absolute else '') + '/'.join(parts), os.path.join(root, 'images')
    if not leads_out(name, folder, root):
        path = os.path.normpath(os.path.join(os.getcwd(), folder, name))
        home = os.path.normpath(os.path.join(os.getcwd(), root))
        assert path == home or path.startswith(home + '/')
        assert '\0' not in name


@given(st.binary(max_size=200), st.sampled_from(
    [b'', *(bad_files.encoded(kind)[:30] for kind in ('JPEG', 'PNG', 'BMP', 'GIF', 'WEBP', 'TIFF',
                                                      'PPM', 'JPEG2000', 'AVIF'))]))
@ANY
def test_any_bytes_are_told_apart_without_an_error(content, start):
    found = image_fault(start + content)
    assert found is None or isinstance(found, Fault)


@pytest.mark.parametrize('place', range(8, 400, 7))
def test_a_damaged_animation_never_reaches_the_decoder(place):
    """OpenCV 4.12 crashes on some: here the parts are walked through, and their sums compared."""
    whole = bad_files.MAKERS['animated.png'][3](None)
    assert b'fdAT' in whole and b'fdAT' not in still(whole) and b'acTL' not in still(whole)
    data = bytearray(whole)
    data[place] ^= 0xFF
    try:
        assert not any(name in still(bytes(data)) for name in (b'acTL', b'fcTL', b'fdAT'))
    except ValueError as error:
        assert 'of an animated PNG is damaged' in str(error)
