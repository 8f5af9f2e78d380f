"""Batches are functions of seed and step; twins belong together; bad pictures are named."""

import dataclasses
import io
import zipfile

import numpy as np
import pytest
from PIL import Image

from artifygan_jax.data import edges
from artifygan_jax.data.faces import Faces
from artifygan_jax.data.split import held_out
from artifygan_jax.data.streams import Batches, Mix, Pictures, Smoothed, Stream, load, square
from artifygan_jax.errors import UserError


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


def test_pictures_come_from_folder_zip_and_folder_in_zip(tmp_path):
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        for i in range(3):
            data = io.BytesIO()
            Image.new("RGB", (8, 8), (i, i, i)).save(data, "PNG")
            archive.writestr(f"faces/{i}.jpg", data.getvalue())  # PNG data: content decides
    for i in range(3):
        save(tmp_path / "faces" / f"{i}.png", i, (8, 8))
    for path in ("set.zip", "set.zip/faces", "faces"):
        source = Pictures(str(tmp_path / path))
        assert [int(source[i][0, 0, 0]) for i in range(len(source))] == [0, 1, 2]


def test_train_and_held_out_parts_are_the_one_split(tmp_path):
    for i in range(16):
        save(tmp_path / f"{i:02}.png", i)
    everything = Pictures(str(tmp_path))
    names = [everything.name(i) for i in range(16)]
    parts = {}
    for split in ("train", "held_out"):
        source = Pictures(str(tmp_path), split)
        parts[split] = [source.name(i) for i in range(len(source))]
    assert parts["held_out"] == [n for n, out in zip(names, held_out(names), strict=True) if out]
    assert sorted(parts["train"] + parts["held_out"]) == names
    with pytest.raises(UserError, match="allowed are all, train, held_out"):
        len(Pictures(str(tmp_path), "test"))


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
