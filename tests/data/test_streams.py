"""Batches are functions of seed and step; twins belong together; bad pictures are named."""

import dataclasses
import threading

import jax
import numpy as np
import pytest
from PIL import Image

from artifygan_jax import augment
from artifygan_jax.data import edges
from artifygan_jax.data.faces import Faces
from artifygan_jax.data.pictures import Mix, Pictures
from artifygan_jax.data.streams import Batches, Marks, Smoothed, Stream, load, square
from artifygan_jax.errors import StoppedEarly, UserError


@dataclasses.dataclass
class Numbers:
    """Pictures that say which they are: every pixel of number i is i + offset."""

    count: int
    offset: int = 0

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        return np.full((16, 16, 3), index + self.offset, np.uint8)

    def name(self, index):
        return f"{index + self.offset}.png"


def streams(count=10, **kw):
    return {"photo": Stream(Numbers(count), size=16, **kw)}


def seen(batches, steps):
    return [list(batches[k]["photo"][:, 0, 0, 0]) for k in range(steps)]


def save(path, value=100, size=(20, 20)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (value, value, value)).save(path)


def test_a_batch_is_a_function_of_seed_and_step():
    a, b = Batches(streams(), 4, seed=3), Batches(streams(), 4, seed=3)
    later = b[7]["photo"]
    assert seen(a, 8) == seen(b, 8)
    np.testing.assert_array_equal(a[7]["photo"], later)
    assert seen(Batches(streams(), 4, seed=4), 8) != seen(a, 8)


def test_every_epoch_holds_every_picture_once_in_another_order():
    flat = np.concatenate(seen(Batches(streams(10), 5), 6))
    epochs = flat.reshape(3, 10)
    assert all(sorted(e) == list(range(10)) for e in epochs)
    assert len({tuple(e) for e in epochs}) == 3


def test_hosts_read_disjoint_shares_that_make_the_global_batch():
    whole = seen(Batches(streams(), 4), 3)
    parts = [seen(Batches(streams(), 4, host=h, hosts=2), 3) for h in (0, 1)]
    assert [a + b for a, b in zip(*parts, strict=True)] == whole


def test_loading_from_a_step_equals_skipping_to_it_with_any_number_of_threads():
    batches = Batches(streams(), 4, steps=9)
    straight = [b["photo"][:, 0, 0, 0].tolist() for b in load(batches)]
    assert len(straight) == 9
    for threads in (1, 3):
        resumed = [b["photo"][:, 0, 0, 0].tolist() for b in load(batches, 5, threads=threads)]
        assert resumed == straight[5:]


def test_a_mix_draws_by_weight_whatever_the_sizes():
    mix = Mix((Numbers(4), Numbers(100, offset=100)), (3.0, 1.0))
    batches = Batches({"photo": Stream(mix, size=16)}, 8)
    flat = np.concatenate(seen(batches, 50))
    assert (flat < 100).mean() == 0.75
    assert len(mix) == 104 and mix.name(4) == "100.png" and mix[103][0, 0, 0] == 199
    with pytest.raises(UserError, match="one positive weight"):
        Mix((Numbers(4),), (0.0,))


def test_names_say_what_a_batch_is_made_of():
    batches = Batches(streams(), 4)
    pixels = batches[3]["photo"][:, 0, 0, 0]
    assert batches.names(3)["photo"] == [f"{i}.png" for i in pixels]


def test_smoothed_twins_are_of_the_same_cartoons():
    spec = {"cartoon": Stream(Faces("cartoon", 6, 0, 32), size=32), "smooth": Smoothed("cartoon")}
    batch = Batches(spec, 3)[2]
    for cartoon, smooth in zip(batch["cartoon"], batch["smooth"], strict=True):
        np.testing.assert_array_equal(edges.smooth(cartoon), smooth)
        assert (cartoon != smooth).any()


def test_smoothed_twins_from_disk_pair_by_stem(tmp_path):
    for i in range(4):
        save(tmp_path / "a" / f"{i}.png", 10 * i)
        save(tmp_path / "b" / f"{i}.jpg", 10 * i + 100)
    spec = {
        "cartoon": Stream(Pictures(str(tmp_path / "a")), size=16),
        "smooth": Smoothed("cartoon", Pictures(str(tmp_path / "b"))),
    }
    batch = Batches(spec, 4)[0]
    difference = batch["smooth"][:, 0, 0, 0].astype(int) - batch["cartoon"][:, 0, 0, 0]
    assert (abs(difference - 100) <= 1).all()  # JPEG
    (tmp_path / "b" / "2.jpg").unlink()
    spec["smooth"] = Smoothed("cartoon", Pictures(str(tmp_path / "b")))
    with pytest.raises(UserError, match="no twin of 2.png"):
        Batches(spec, 4)[0]


def test_a_twin_of_no_stream_is_refused_with_a_suggestion():
    with pytest.raises(UserError, match="twin of 'carton'.*did you mean 'cartoon'"):
        Batches({"cartoon": Stream(Numbers(4)), "smooth": Smoothed("carton")}, 2)


def test_square_takes_the_centre_and_keeps_pictures_of_the_right_size():
    wide = np.zeros((20, 60, 3), np.uint8)
    wide[:, 20:40] = 200
    assert square(wide, 20).min() == 200
    assert square(wide[:, :20], 20) is not None
    tall = np.random.default_rng(0).integers(0, 255, (16, 16, 3), np.uint8)
    assert square(tall, 16) is tall


def test_kept_pictures_are_read_once():
    reads = []

    class Counting(Numbers):
        def __getitem__(self, index):
            reads.append(index)
            return super().__getitem__(index)

    batches = Batches({"photo": Stream(Counting(6), size=16, keep=True)}, 6)
    first = batches[0]["photo"].copy()
    for k in range(4):
        batches[k]
    assert sorted(reads) == list(range(6))
    np.testing.assert_array_equal(batches[0]["photo"], first)


def folder_with_bad(path, good, bad):
    for i in range(good):
        save(path / f"g{i:05}.png", i % 250, (16, 16))
    for i in range(bad):
        (path / f"bad{i:03}.png").write_bytes(b"not a picture")
    return Pictures(str(path))


def test_one_bad_picture_in_two_thousand_is_skipped_and_named(tmp_path, caplog):
    source = folder_with_bad(tmp_path, 1999, 1)
    batches = Batches({"photo": Stream(source, size=16)}, 100)
    for k in range(20):
        assert batches[k]["photo"].shape == (100, 16, 16, 3)
    assert caplog.text.count("bad000.png") == 1


@pytest.mark.parametrize(("good", "bad"), [(19, 1), (95, 5), (0, 3)])
def test_too_many_bad_pictures_stop_with_all_their_names(tmp_path, good, bad):
    source = folder_with_bad(tmp_path, good, bad)
    batches = Batches({"photo": Stream(source, size=16)}, 4)
    with pytest.raises(UserError) as error:
        for k in range(100):
            batches[k]
    assert all(f"bad{i:03}.png" in str(error.value) for i in range(bad))
    assert "\n" not in str(error.value)


def test_a_set_smaller_than_a_batch_repeats_and_says_so(caplog):
    batch = Batches(streams(count=1), 4)[0]["photo"]
    assert (batch == 0).all() and len(batch) == 4
    assert "data.photo has 1 pictures for batches of 4" in caplog.text


@pytest.mark.parametrize("changes", [dict(size=8), dict(size=32, crop=33), dict(size=32, crop=-1)])
def test_sizes_that_cannot_be_are_named(changes):
    with pytest.raises(UserError, match="data.photo: size"):
        Batches({"photo": Stream(Numbers(4), **changes)}, 2)


def test_a_bad_picture_takes_its_twin_with_it(tmp_path):
    for i in range(1200):
        save(tmp_path / "a" / f"{i:04}.png", i % 100, (16, 16))
    for i in range(1200):
        save(tmp_path / "b" / f"{i:04}.png", i % 100 + 100, (16, 16))
    (tmp_path / "a" / "0007.png").write_bytes(b"not a picture")
    spec = {
        "cartoon": Stream(Pictures(str(tmp_path / "a")), size=16),
        "smooth": Smoothed("cartoon", Pictures(str(tmp_path / "b"))),
    }
    batches = Batches(spec, 100)
    for k in range(12):
        batch = batches[k]
        np.testing.assert_array_equal(batch["cartoon"] + 100, batch["smooth"])


def packed_and_plain(tmp_path, source, **twins):
    """The first batches of one stream, read from its source and from its pack."""
    found = []
    for pack in ("", str(tmp_path / "packs")):
        batches = Batches({"cartoon": Stream(source, size=32, pack=pack), **twins}, 4, steps=8)
        found.append(list(load(batches)))
    return found


def test_packed_streams_give_the_same_batches_and_read_no_picture_again(tmp_path, monkeypatch):
    folder = tmp_path / "faces"
    folder.mkdir()
    for i, face in enumerate([Faces("cartoon", 10, 0, 48)[i] for i in range(10)]):
        Image.fromarray(face).save(folder / f"{i}.png")
    twins = {"smooth": Smoothed("cartoon")}
    plain, packs = packed_and_plain(tmp_path, Pictures(str(folder)), **twins)
    for a, b in zip(plain, packs, strict=True):
        for name in ("cartoon", "smooth"):
            np.testing.assert_array_equal(a[name], b[name])
    monkeypatch.setattr(Pictures, "__getitem__", lambda *_: pytest.fail("it is packed"))
    again = Batches({"cartoon": Stream(Pictures(str(folder)), 32, pack=str(tmp_path / "packs"))}, 4)
    np.testing.assert_array_equal(next(load(again))["cartoon"], plain[0]["cartoon"])


def test_a_mix_is_packed_source_by_source(tmp_path):
    mix = Mix((Faces("cartoon", 6, 0, 32), Faces("photo", 5, 1, 32)), (1.0, 3.0))
    plain, packs = packed_and_plain(tmp_path, mix)
    assert len(list((tmp_path / "packs").glob("cartoon-*.npy"))) == 2
    for a, b in zip(plain, packs, strict=True):
        np.testing.assert_array_equal(a["cartoon"], b["cartoon"])


def test_a_hanging_read_ends_the_wait_and_says_so():
    release = threading.Event()

    class Hanging(Numbers):
        def __getitem__(self, index):
            release.wait(30)
            return super().__getitem__(index)

    batches = Batches({"photo": Stream(Hanging(4), size=16)}, 2)
    with pytest.raises(StoppedEarly, match="no batch came for 0.2 s.*run the same command again"):
        next(load(batches, patience=0.2))
    release.set()


def test_the_error_of_a_reading_thread_arrives_as_it_was():
    class Broken(Numbers):
        def __getitem__(self, index):
            raise OSError("image 150 is cut")

    with pytest.raises(OSError, match="image 150 is cut"):
        next(load(Batches({"photo": Stream(Broken(4), size=16)}, 2)))


class Labelled(Numbers):
    """Numbers of which the odd ones are labelled."""

    def marked(self, names):
        if set(names) - {"odd"}:
            raise UserError(f"no picture is labelled {names}")
        return np.arange(self.count)[:, None] % 2 == 1


def test_marks_belong_to_the_pictures_of_their_batch():
    source = Mix((Labelled(6), Labelled(4)), (1.0, 1.0))
    spec = {"real": Stream(source, size=16), "labels": Marks("real", ("odd",))}
    batches = Batches(spec, 5, seed=1)
    for step in range(4):
        batch = batches[step]
        assert batch["labels"].dtype == np.float32 and batch["labels"].shape == (5, 1)
        np.testing.assert_array_equal(batch["labels"][:, 0], batch["real"][:, 0, 0, 0] % 2)
    prepared = augment.prepare(batch, jax.random.key(0), spec, np.float32)
    np.testing.assert_array_equal(prepared["labels"], batch["labels"])
    with pytest.raises(UserError, match="is the twin of 'rael' .did you mean 'real'"):
        Batches(spec | {"labels": Marks("rael", ("odd",))}, 5)
    with pytest.raises(UserError, match="no picture is labelled"):
        Batches(spec | {"labels": Marks("real", ("even",))}, 5)
