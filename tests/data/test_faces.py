"""The embedded faces: determinism, what attributes do to pictures, how the domains differ."""

import dataclasses

import numpy as np
import pytest

from artifygan_jax.data import face_shapes, faces
from artifygan_jax.errors import UserError

PLAIN = dataclasses.replace(
    faces.attributes(0, seed=5),
    smile=0.0, glasses=False, hat=False, hair="brown", age=0.2, skin=0.3, style="short",
    fringe=0.9, beard="none", makeup=0.3, tilt=0.0, turn=0.0, x=0.5, y=0.515, scale=1.0, width=1.0,
)  # fmt: skip


def picture(domain, size=128, **changes):
    person = dataclasses.replace(PLAIN, **changes)
    return faces.draw(person, domain, size).astype(np.float32)


def window(image, u, v):
    """The pixels of the ranges u and v, in head coordinates of PLAIN."""
    corners = face_shapes.pose(PLAIN, [(u[0], v[0]), (u[1], v[1])]) * len(image)
    (left, top), (right, bottom) = np.round(corners).astype(int)
    assert 0 <= top < bottom <= len(image) and 0 <= left < right <= len(image)
    return image[top:bottom, left:right]


def fine_noise(image):
    """Median size of a second difference, in grey levels; a few edges do not move it."""
    return float(np.median(np.abs(image[:, 2:] - 2 * image[:, 1:-1] + image[:, :-2])))


@pytest.mark.parametrize("domain", faces.DOMAINS)
def test_equal_arguments_give_equal_bytes(domain):
    first = faces.Faces(domain, count=4, seed=3, size=48)
    np.random.seed(7)  # a global state that must not matter
    again = faces.Faces(domain, count=4, seed=3, size=48)
    forwards = [first[i].tobytes() for i in range(4)]
    backwards = [again[i].tobytes() for i in reversed(range(4))]
    assert forwards == backwards[::-1]
    assert len(set(forwards)) == 4


def test_a_person_depends_on_index_and_seed_alone():
    assert faces.Faces("photo", 9, seed=3).attributes(8) == faces.attributes(8, seed=3)
    assert faces.attributes(8, seed=3) != faces.attributes(8, seed=4)
    assert faces.attributes(8, seed=3) != faces.attributes(3, seed=8)


@pytest.mark.parametrize("size", [32, 64, 128, 256])
@pytest.mark.parametrize("domain", faces.DOMAINS)
def test_sizes_show_the_same_picture(domain, size):
    image = faces.Faces(domain, 3, seed=1, size=size)[2]
    assert image.shape == (size, size, 3) and image.dtype == np.uint8
    small = image.reshape(32, size // 32, 32, size // 32, 3).mean((1, 3), dtype=np.float32)
    other = faces.Faces(domain, 3, seed=1, size=96)[2]
    other = other.reshape(32, 3, 32, 3, 3).mean((1, 3), dtype=np.float32)
    # The noise of the camera, relief at 32 px and ink that is thinner than a pixel differ by up to
    # 7 grey levels (measured, at 32 px); pictures of two people differ by more than 20.
    assert np.abs(small - other).mean() < 10


@pytest.mark.parametrize("domain", faces.DOMAINS)
def test_pictures_of_two_people_differ_more_than_noise(domain):
    people = faces.Faces(domain, 4, seed=1, size=32)
    for i in range(3):
        assert np.abs(people[i].astype(int) - people[i + 1]).mean() > 15


def test_drawn_attributes_cover_their_ranges():
    people = [faces.attributes(i, seed=11) for i in range(600)]
    assert {p.hair for p in people} == set(faces.HAIR)
    assert {p.style for p in people} == set(faces.STYLES)
    assert {p.beard for p in people} == set(faces.BEARDS)
    assert {p.eyes for p in people} == set(faces.EYES)
    assert {p.hat_style for p in people} == set(faces.HATS)
    assert {p.clothes for p in people} == set(faces.CLOTHES)
    for name, low, high in (("smile", -1, 1), ("age", 0, 1), ("skin", 0, 1)):
        values = np.array([getattr(p, name) for p in people])
        assert low <= values.min() < low + 0.1 and high - 0.1 < values.max() <= high
    # 600 draws: three standard deviations are 0.06 for a rate of 0.28.
    assert abs(np.mean([p.glasses for p in people]) - 0.28) < 0.06
    assert abs(np.mean([p.hat for p in people]) - 0.2) < 0.06
    grey = {True: [], False: []}
    for p in people:
        grey[p.age > 0.6].append(p.hair == "grey")
    assert np.mean(grey[True]) > 0.3 > 0.1 > np.mean(grey[False])


@pytest.mark.parametrize("domain", faces.DOMAINS)
def test_a_smile_raises_the_corners_of_the_mouth(domain):
    def height(smile):
        """Row where the mouth begins beside its corners, from above, mean over both sides."""
        image = picture(domain, size=256, smile=smile).mean(-1)
        sides = [window(image, u, (0.5, 0.8)) for u in ((-0.33, -0.28), (0.28, 0.33))]
        rows = [side.mean(1) for side in sides]
        return np.mean([(row < 0.85 * row[0]).argmax() for row in rows])

    frown, neutral, laugh = height(-1.0), height(0.0), height(1.0)
    assert frown > neutral + 1 and neutral > laugh + 2


@pytest.mark.parametrize("domain", faces.DOMAINS)
def test_a_laugh_shows_teeth(domain):
    closed, opened = (
        window(picture(domain, smile=s), (-0.1, 0.1), (0.6, 0.75)).min(-1).max() for s in (0.0, 1.0)
    )
    assert opened > closed + 15 and opened > 200


@pytest.mark.parametrize("domain", faces.DOMAINS)
def test_glasses_change_the_eyes_and_leave_the_rest(domain):
    change = np.abs(picture(domain) - picture(domain, glasses=True)).mean(-1)
    assert window(change, (-0.75, 0.75), (-0.2, 0.3)).mean() > 12
    # The noise of the camera is the same, so what is not near the glasses stays as it is.
    assert window(change, (-0.5, 0.5), (0.5, 1.2)).max() <= 1


@pytest.mark.parametrize("hat_style", faces.HATS)
@pytest.mark.parametrize("domain", faces.DOMAINS)
def test_a_hat_changes_the_top_and_leaves_the_chin(domain, hat_style):
    change = np.abs(picture(domain) - picture(domain, hat=True, hat_style=hat_style)).mean(-1)
    assert window(change, (-0.7, 0.7), (-1.3, -0.5)).mean() > 25
    assert window(change, (-0.5, 0.5), (0.3, 1.2)).max() <= 1


@pytest.mark.parametrize("hair", list(faces.HAIR))
@pytest.mark.parametrize("domain", faces.DOMAINS)
def test_hair_has_the_colour_of_its_name(domain, hair):
    image = picture(domain, hair=hair)
    mean = window(image, (-0.4, 0.4), (-0.95, -0.6)).reshape(-1, 3).mean(0)
    pick = faces.DOMAINS.index(domain)
    distance = {name: np.abs(mean - tones[pick]).sum() for name, tones in faces.HAIR.items()}
    assert min(distance, key=distance.get) == hair


@pytest.mark.parametrize("domain", faces.DOMAINS)
def test_styles_of_hair_differ_where_they_should(domain):
    looks = {style: picture(domain, style=style, hair="black") for style in faces.STYLES}
    crown = {s: window(i, (-0.4, 0.4), (-0.9, -0.6)).mean() for s, i in looks.items()}
    assert all(crown["bald"] > crown[s] + 30 for s in faces.STYLES if s != "bald")
    beside = {s: window(i, (1.0, 1.1), (0.9, 1.2)).mean() for s, i in looks.items()}
    assert beside["long"] < beside["short"] - 30


@pytest.mark.parametrize("domain", faces.DOMAINS)
def test_skin_darkens_step_by_step(domain):
    steps = np.linspace(0, 1, 5)
    cheek = [window(picture(domain, skin=s), (0.3, 0.5), (0.3, 0.5)).mean() for s in steps]
    assert (np.diff(cheek) < -8).all()


@pytest.mark.parametrize("domain", faces.DOMAINS)
def test_age_draws_lines_on_the_forehead(domain):
    def lines(age):
        brow = window(picture(domain, age=age, style="bald", size=256), (-0.2, 0.2), (-0.5, -0.28))
        return np.abs(np.diff(brow.mean((1, 2)))).max()

    assert lines(1.0) > 3 * lines(0.0) and lines(1.0) > 5


@pytest.mark.parametrize("domain", faces.DOMAINS)
def test_a_beard_darkens_the_chin(domain):
    chins = [
        window(picture(domain, beard=b, hair="black"), (-0.2, 0.2), (0.86, 0.98)).mean()
        for b in ("none", "full")
    ]
    assert chins[1] < chins[0] - 40


def test_photos_have_noise_where_cartoons_are_flat():
    for i in range(6):
        person = faces.attributes(i, seed=2)
        corner = [faces.draw(person, d, 128)[:12, :12].astype(np.float32) for d in faces.DOMAINS]
        assert fine_noise(corner[0]) >= 3
        assert fine_noise(corner[1]) == 0


def test_cartoons_have_fewer_colours_more_ink_and_more_saturation():
    def numbers(domain):
        images = [faces.draw(faces.attributes(i, seed=2), domain, 128) for i in range(12)]
        colours = np.mean([len(np.unique(i.reshape(-1, 3), axis=0)) for i in images])
        stack = np.stack(images).astype(np.float32)
        grey = stack.mean(-1)
        steep = (np.abs(np.diff(grey, axis=2)) > 60).mean()
        top, low = stack.max(-1), stack.min(-1)
        return colours, steep, ((top - low) / np.maximum(top, 1)).mean()

    (photo_colours, photo_steep, photo_vivid), cartoon = numbers("photo"), numbers("cartoon")
    assert cartoon[0] < photo_colours / 3
    assert cartoon[1] > 2 * photo_steep
    assert cartoon[2] > photo_vivid


def test_both_domains_share_the_layout():
    """A small local network has to be able to turn one into the other: heads cover each other."""
    for i in range(8):
        person = dataclasses.replace(faces.attributes(i, seed=4), hat=False)
        masks = []
        for domain in faces.DOMAINS:
            other = dataclasses.replace(person, skin=1 - person.skin)
            change = np.abs(
                faces.draw(person, domain, 64).astype(int) - faces.draw(other, domain, 64)
            ).max(-1)
            masks.append(change > 4)
        both, either = masks[0] & masks[1], masks[0] | masks[1]
        assert either.sum() > 200 and both.sum() / either.sum() > 0.6


def test_wrong_arguments_name_what_is_allowed():
    with pytest.raises(UserError, match=r"'foto' \(did you mean 'photo'\?\); use one of ph"):
        faces.Faces("foto", 3, seed=0)
    with pytest.raises(UserError, match="photo, cartoon"):
        faces.draw(PLAIN, "sketch", 64)
    for bad in ({"count": 0}, {"size": 8}, {"seed": -1}):
        with pytest.raises(UserError, match="count from 1, a size from 16"):
            faces.Faces("photo", **{"count": 3, "seed": 0, **bad})


def test_faces_are_a_sequence_with_names():
    people = faces.Faces("cartoon", count=3, seed=0, size=16)
    assert len(people) == 3 and len(list(people)) == 3
    assert people.name(12) == "cartoon-000012"
    with pytest.raises(IndexError, match="picture 3 of 3"):
        people[3]
