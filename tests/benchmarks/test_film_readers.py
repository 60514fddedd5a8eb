"""The benchmark of film readers: both give a clip of each film, and its costs are measured."""
import pytest

films = pytest.importorskip('films', reason='it needs decord and imageio-ffmpeg')


def test_both_readers_give_a_clip_of_each_film(tmp_path, monkeypatch):
    monkeypatch.setattr(films, 'SOURCE', 'testsrc2=s=64x48:r=30')
    paths = films.make(tmp_path, 2)
    assert {films.Films(paths, name)[1] for name in films.READERS} == {32}
    indexed, decoded = films.index_cost(paths)
    assert 0 < indexed < decoded
    assert set(films.clip_cost(paths)) == set(films.READERS)
