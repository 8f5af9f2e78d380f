"""What moves in a face when one attribute changes: linear boundaries in W, and edits measured.

InterFaceGAN (Shen et al., arXiv:2005.09635): codes whose pictures a classifier is sure of, on either
side, are told apart by a plane; its normal is the direction of the attribute, from which those of
attributes to be kept are projected away. Planes by logistic regression instead of a support vector
machine; strengths are in standard deviations of codes along the direction.
"""

import dataclasses
import hashlib
import io
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from artifygan_jax import bundle
from artifygan_jax.data.saving import write_whole
from artifygan_jax.errors import UserError, did_you_mean
from artifygan_jax.latent import codes
from artifygan_jax.latent.directions import Direction
from artifygan_jax.latent.encode import resized
from artifygan_jax.latent.identity import Likeness
from artifygan_jax.latent.render import Renderer
from artifygan_jax.nets import ops
from artifygan_jax.nets.attributes import Classifier

SAMPLES, SHARE, HELD_OUT = 10_000, 0.2, 0.3  # of the codes, either end; of those, for the test
SEED = 2_000_000  # of the first sample: far from those that people draw
KEEP = ("Male", "Young", "Smiling", "Eyeglasses", "Pale_Skin", "Blond_Hair", "Wearing_Hat")
GROUPS = {
    "expression": ("Smiling", "Mouth_Slightly_Open", "Narrow_Eyes"),
    "glasses": ("Eyeglasses",),
    "hat": ("Wearing_Hat",),
    "hair": ("Bangs", "Black_Hair", "Blond_Hair", "Brown_Hair", "Gray_Hair", "Bald"),
    "age": ("Young", "Gray_Hair"),
}
SHAPE = 8  # the first codes, up to 32 px, which an expression is made by


class Judge:
    """Logits of attributes of pictures, by the bundle of a classifier."""

    def __init__(self, where: str):
        net, card = bundle.load(where)
        if not isinstance(net, Classifier):
            raise UserError(
                f"{where} is a {card['architecture']} {card['net']}, wanted a classifier of"
                " attributes (configs/attributes.py)"
            )
        self.names: tuple[str, ...] = tuple(net.options.names)
        self.where, self.mark = where, card["sha256"]
        side = net.side
        graph, self._weights = nnx.split(net)
        self._run = ops.jit(lambda weights, x: nnx.merge(graph, weights)(resized(x, side)))

    def __call__(self, images: np.ndarray | jax.Array) -> np.ndarray:
        """`[N, names]` of pictures `[N, S, S, 3]` in [-1, 1]."""
        return np.asarray(self._run(self._weights, jnp.asarray(images)))

    def number(self, name: str) -> int:
        """Which logit belongs to `name`; a `UserError` with the nearest, where there is none."""
        if name not in self.names:
            raise UserError(
                f"no attribute {name!r}{did_you_mean(name, self.names)}; {self.where} knows"
                f" {', '.join(self.names)}"
            )
        return self.names.index(name)


@dataclasses.dataclass(frozen=True, eq=False)
class Boundaries:
    """Of the attributes `names`: unit normals `[K, w_size]`, and how many held-out codes their planes
    tell rightly. `spread` `[w_size, w_size]` is the covariance of codes."""

    names: tuple[str, ...]
    normals: np.ndarray
    accuracy: np.ndarray
    spread: np.ndarray

    def direction(self, name: str, keep: Sequence[str] = KEEP) -> np.ndarray:
        """`[w_size]`: one standard deviation towards `name`, along which those of `keep` stay."""
        others = [self.names.index(k) for k in keep if k != name and k in self.names]
        normal = self.normals[self.names.index(name)].astype(np.float64)
        if others:
            basis = np.linalg.qr(self.normals[others].T.astype(np.float64))[0]
            normal = normal - basis @ (basis.T @ normal)
        length = np.linalg.norm(normal)
        if length < 1e-3:
            raise UserError(
                f"{name} cannot be moved while {', '.join(keep)} stay; give fewer --keep"
            )
        normal = normal / length
        return (normal * np.sqrt(normal @ self.spread @ normal)).astype(np.float32)

    def basis(self, names: Sequence[str], keep: Sequence[str]) -> np.ndarray:
        """Orthonormal `[w_size, k]`: what the directions of `names` span."""
        rows = [self.direction(name, keep) for name in names]
        return np.linalg.qr(np.stack(rows, axis=1).astype(np.float64))[0].astype(np.float32)


def find(renderer: Renderer, judge: Judge, say: Callable[[str], None] = print) -> Boundaries:
    """The boundaries of all that `judge` knows in the codes of a generator of photos.

    They are kept by generator and classifier, since 10,000 pictures are drawn for them.
    """
    if renderer.options.labels:
        raise UserError(f"{renderer.where} has classes: boundaries are found without")
    mark = hashlib.sha256(f"{renderer.card['sha256']} {judge.mark} {SAMPLES} {SHARE} 1".encode())
    path = bundle.cache() / "boundaries" / f"{mark.hexdigest()[:32]}.npz"
    if path.exists():
        with np.load(path, allow_pickle=False) as file:
            return Boundaries(judge.names, file["normals"], file["accuracy"], file["spread"])
    say(f"looking for the boundaries of {len(judge.names)} attributes in {SAMPLES} pictures")
    sample = codes.by_seed(range(SEED, SEED + SAMPLES), renderer.options)
    logits = np.concatenate([judge(images) for images in renderer.images(sample)])
    assert sample.z is not None
    found = planes(judge.names, renderer.code(sample.z), logits)
    buffer = io.BytesIO()
    np.savez(buffer, normals=found.normals, accuracy=found.accuracy, spread=found.spread)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, buffer.getvalue())
    return found


def planes(names: Sequence[str], w: np.ndarray, logits: np.ndarray) -> Boundaries:
    """Boundaries in codes `[N, w_size]` by the logits `[N, K]` of their pictures."""
    w = w.astype(np.float64)
    ends, normals, accuracy = int(SHARE * len(w)), [], []
    deviation = w.std(0) + 1e-8
    shuffled = np.random.default_rng(0).permutation(2 * ends)
    test, train = np.split(shuffled, [int(HELD_OUT * len(shuffled))])
    for column in logits.T:
        order = np.argsort(column, kind="stable")
        x = (w[np.concatenate([order[:ends], order[-ends:]])] - w.mean(0)) / deviation
        has = np.repeat([0.0, 1.0], ends)
        beta = logistic(x[train], has[train])
        accuracy.append(float((((x[test] @ beta[:-1] + beta[-1]) > 0) == has[test]).mean()))
        normal = beta[:-1] / deviation
        normals.append(normal / max(np.linalg.norm(normal), 1e-12))
    stacked = np.stack(normals).astype(np.float32)
    return Boundaries(tuple(names), stacked, np.array(accuracy), np.cov(w.T))


def logistic(x: np.ndarray, y: np.ndarray, ridge: float = 10.0, rounds: int = 12) -> np.ndarray:
    """`[D + 1]`: slopes, and the constant last, of a logistic regression of 0 and 1 by Newton's method."""
    x = np.concatenate([x, np.ones((len(x), 1))], axis=1)
    beta = np.zeros(x.shape[1])
    held = np.full(x.shape[1], ridge)
    held[-1] = 1e-6
    for _ in range(rounds):
        p = 1 / (1 + np.exp(-np.clip(x @ beta, -30, 30)))
        curve = (x * (p * (1 - p))[:, None]).T @ x + np.diag(held)
        beta = beta - np.linalg.solve(curve, x.T @ (p - y) + held * beta)
    return beta


def transferred(
    ws: np.ndarray, other: np.ndarray, basis: np.ndarray, strength: float
) -> np.ndarray:
    """`ws` `[N, L, w]`, in its first codes as far along `basis` `[w, k]` as `other` is."""
    out = ws.copy()
    first = slice(0, min(SHAPE, ws.shape[1]))
    out[:, first] += strength * ((other - ws)[:, first] @ basis @ basis.T)
    return out


def measured(
    renderer: Renderer,
    judge: Judge,
    ws: np.ndarray,
    directions: dict[str, Direction],
    strength: float,
    likeness: Likeness | None,
) -> list[dict[str, Any]]:
    """A row for each edit of the codes `ws` `[N, num_ws, w_size]`, N at least 2: what it changed.

    `target` is the mean change of its logit, `others` the mean absolute change of those of all other
    attributes, `raised` the share of faces whose logit moved the way of `strength`, all logits in
    their own deviations over `ws`. `identity` is the mean cosine before and after, `stranger` that of
    neighbours in `ws`.
    """

    def seen(ws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Logits and embeddings, batch by batch; no embeddings without a network for them."""
        embed = (lambda x: np.zeros((len(x), 0))) if likeness is None else likeness.embeddings
        found = [(judge(x), embed(x)) for x in renderer.images(codes.of_ws(ws))]
        logits, embeddings = (np.concatenate(part) for part in zip(*found, strict=True))
        return logits, embeddings

    logits, mine = seen(ws)
    deviation = logits.std(0) + 1e-8
    rows = []
    for name, direction in directions.items():
        after, theirs = seen(direction.walk(ws, strength))
        change = (after - logits) / deviation
        k = judge.number(name)
        rest = np.delete(np.abs(change), k, axis=1)
        row = {
            "attribute": name,
            "target": round(float(change[:, k].mean()), 3),
            "raised": round(float((change[:, k] * np.sign(strength) > 0).mean()), 3),
            "others": round(float(rest.mean()), 3),
        }
        if likeness is not None:
            row["identity"] = round(float((mine * theirs).sum(1).mean()), 3)
            row["stranger"] = round(float((mine * np.roll(mine, 1, axis=0)).sum(1).mean()), 3)
        rows.append(row)
    return rows
