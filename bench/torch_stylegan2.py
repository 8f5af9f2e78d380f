"""The rival of StyleGAN2 in torch: generator, discriminator and the losses of the four phases.

Written for these benchmarks, in plain torch as its eager users have it: the filter by a depthwise
convolution, doubling by a transposed convolution, R1 and path lengths by differentiating twice. The
modulated convolution comes in both forms of the authors' code: styles on activations ("scaled", how
they train) or a kernel for each picture in a grouped convolution ("grouped"). Nets take our arrays.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from artifygan_jax.nets import stylegan2

ROOT2 = math.sqrt(2)
Draws = Mapping[str, torch.Tensor]  # z, y: what is drawn for a phase


class Net(nn.Module):
    """Our arrays `{path: array}` as parameters; `noise` and `w_avg` are buffers."""

    def __init__(self, arrays: Mapping[str, np.ndarray], device: str = "cpu"):
        super().__init__()
        self.values: dict[str, torch.Tensor] = {}
        for path, array in arrays.items():
            value = torch.from_numpy(_layout(path, np.asarray(array)).copy()).to(device)
            name = path.replace("/", "_")
            if path.endswith(("noise", "w_avg")):
                self.register_buffer(name, value)
            else:
                self.register_parameter(name, nn.Parameter(value))
            self.values[path] = getattr(self, name)
        taps = torch.tensor([1.0, 3.0, 3.0, 1.0], device=device) / 8
        self.register_buffer("filter", torch.outer(taps, taps)[None, None])

    def gradients(self) -> dict[str, np.ndarray]:
        """Gradients by path, in our layout; zero where there are none."""
        found = {}
        for path, value in self.values.items():
            if value.requires_grad:
                grad = torch.zeros_like(value) if value.grad is None else value.grad
                found[path] = _ours(path, grad.cpu().numpy())
        return found

    def dense(self, path: str, x: torch.Tensor, rate: float = 1.0) -> torch.Tensor:
        """A dense layer with gains at run time."""
        weight = self.values[f"{path}/kernel"]
        bias = self.values[f"{path}/bias"] * rate
        return F.linear(x, weight * (rate / math.sqrt(weight.shape[1])), bias)

    def fir(self, x, before: int, after: int, gain: float = 1.0, stride: int = 1):
        """The filter by a depthwise convolution."""
        kernel = (self.filter * gain).expand(x.shape[1], 1, 4, 4)
        return F.conv2d(
            F.pad(x, [before, after, before, after]), kernel, stride=stride, groups=x.shape[1]
        )

    def code(self, x: torch.Tensor) -> torch.Tensor:
        """The mapping network's code."""
        x = x * (x.square().mean(1, keepdim=True) + 1e-8).rsqrt()
        i = 0
        while f"mapping/layers/{i}/kernel" in self.values:
            x = activation(self.dense(f"mapping/layers/{i}", x, stylegan2.MAPPING_RATE))
            i += 1
        return x


def _layout(path: str, x: np.ndarray) -> np.ndarray:
    """An array of ours as torch has it."""
    if path.endswith("const"):
        return x.transpose(2, 0, 1)
    if path.endswith("kernel"):
        return x.transpose(3, 2, 0, 1) if x.ndim == 4 else x.T
    return x


def _ours(path: str, x: np.ndarray) -> np.ndarray:
    """The way back."""
    if path.endswith("const"):
        return x.transpose(1, 2, 0)
    if path.endswith("kernel"):
        return x.transpose(2, 3, 1, 0) if x.ndim == 4 else x.T
    return x


def activation(x: torch.Tensor, gain: float = 1.0, clamp: float = 0.0) -> torch.Tensor:
    """Leaky ReLU times the root of 2."""
    x = F.leaky_relu(x, 0.2) * (ROOT2 * gain)
    return x.clamp(-clamp * gain, clamp * gain) if clamp else x


class Generator(Net):
    """Latents `[N, z]` to pictures `[N, 3, H, W]`."""

    def __init__(
        self,
        options: stylegan2.GeneratorOptions,
        arrays: Mapping[str, np.ndarray],
        *,
        form: str = "scaled",
        device: str = "cpu",
    ):
        super().__init__(arrays, device)
        self.options, self.grouped = options, form == "grouped"
        self.resolutions = [4 * 2**i for i in range(len(options.channels))]

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return self.synthesis(self.codes(z))

    def codes(self, z: torch.Tensor) -> torch.Tensor:
        """`[N, layers, w]`, each code for all layers."""
        return self.code(z)[:, None].repeat(1, 2 * len(self.resolutions), 1)

    def synthesis(self, ws: torch.Tensor, noise: str = "const") -> torch.Tensor:
        """Pictures of codes; noise "const" or "random"."""
        x = self.values["synthesis/const"].expand(len(ws), -1, -1, -1)
        image = None
        for i, r in enumerate(self.resolutions):
            if i:
                x = self._layer(f"synthesis/b{r}/conv0", x, ws[:, 2 * i - 1], noise, True)
            x = self._layer(f"synthesis/b{r}/conv1", x, ws[:, 2 * i], noise, False)
            rgb = self._rgb(f"synthesis/b{r}/rgb", x, ws[:, 2 * i + 1])
            image = rgb if image is None else self._double(image) + rgb
        assert image is not None
        return image

    def _layer(self, path: str, x, w, noise: str, up: bool):
        style, kernel = self.dense(f"{path}/affine", w), self.values[f"{path}/kernel"]
        convolve = self._grouped if self.grouped else self._scaled
        x = convolve(x, kernel, style, up)
        fixed = self.values[f"{path}/noise"]
        drawn = torch.randn_like(x[:, :1]) if noise == "random" else fixed
        x = x + drawn * self.values[f"{path}/strength"]
        return activation(x + self.values[f"{path}/bias"][:, None, None], clamp=self.options.clamp)

    def _scaled(self, x, kernel, style, up: bool):
        norm = (style.square() @ kernel.square().sum((2, 3)).T + 1e-8).rsqrt()
        x = x * style[:, :, None, None]
        if up:
            y = F.conv_transpose2d(x, kernel.transpose(0, 1), stride=2)
            y = self.fir(y, 1, 1, 4.0)
        else:
            y = F.conv2d(x, kernel, padding=1)
        return y * norm[:, :, None, None]

    def _grouped(self, x, kernel, style, up: bool):
        n, _, h, w = x.shape
        kernels = kernel[None] * style[:, None, :, None, None]
        norm = (kernels.square().sum((2, 3, 4), keepdim=True) + 1e-8).rsqrt()
        kernels = kernels * norm
        outputs = kernels.shape[1]
        x = x.reshape(1, -1, h, w)
        if up:
            kernels = kernels.transpose(1, 2).reshape(-1, outputs, 3, 3)
            y = F.conv_transpose2d(x, kernels, stride=2, groups=n)
            return self.fir(y, 1, 1, 4.0).reshape(n, outputs, 2 * h, 2 * w)
        y = F.conv2d(x, kernels.reshape(-1, *kernels.shape[2:]), padding=1, groups=n)
        return y.reshape(n, outputs, h, w)

    def _rgb(self, path: str, x, w):
        kernel = self.values[f"{path}/kernel"]
        style = self.dense(f"{path}/affine", w) / math.sqrt(kernel.shape[1])
        y = F.conv2d(x * style[:, :, None, None], kernel)
        y = y + self.values[f"{path}/bias"][:, None, None]
        clamp = self.options.clamp
        return y.clamp(-clamp, clamp) if clamp else y

    def _double(self, x):
        n, c, h, w = x.shape
        wide = x.new_zeros(n, c, h, 2, w, 2)
        wide[:, :, :, 0, :, 0] = x
        return self.fir(wide.reshape(n, c, 2 * h, 2 * w), 2, 1, 4.0)


class Discriminator(Net):
    """Pictures `[N, 3, H, W]` to logits `[N]`."""

    def __init__(
        self,
        options: stylegan2.DiscriminatorOptions,
        arrays: Mapping[str, np.ndarray],
        *,
        device: str = "cpu",
    ):
        super().__init__(arrays, device)
        self.options = options
        self.resolutions = [4 * 2**i for i in reversed(range(len(options.channels)))]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = list(self.blocks(x))[-1][1]
        x = self._conv("b4/conv", self._deviation(x))
        return self.dense_out(activation(self._whole(x)))

    def blocks(self, x: torch.Tensor, last: int = 0):
        """(side, output) of each block, down to that which takes `last` px."""
        x = self._conv(f"b{self.resolutions[0]}/rgb", x)
        for r in (r for r in self.resolutions[:-1] if r >= last):
            skip = self._kernel(f"b{r}/skip") * math.sqrt(0.5)
            skip = F.conv2d(self.fir(x, 1, 1, stride=2), skip)
            x = self._conv(f"b{r}/conv0", x)
            x = skip + self._conv(f"b{r}/conv1", self.fir(x, 2, 2), math.sqrt(0.5), stride=2)
            yield r, x

    def dense_out(self, x: torch.Tensor) -> torch.Tensor:
        """The logits of the last features."""
        return self.dense("b4/out", x)[:, 0]

    def _kernel(self, path: str) -> torch.Tensor:
        kernel = self.values[f"{path}/kernel"]
        return kernel / math.sqrt(kernel[0].numel())

    def _conv(self, path: str, x, gain: float = 1.0, stride: int = 1):
        kernel = self._kernel(path)
        padding = kernel.shape[2] // 2 if stride == 1 else 0
        y = F.conv2d(x, kernel, self.values[f"{path}/bias"], stride, padding)
        return activation(y, gain, self.options.clamp)

    def _whole(self, x):
        kernel = self._kernel("b4/dense")
        return F.linear(x.flatten(1), kernel.flatten(1), self.values["b4/dense/bias"])

    def _deviation(self, x):
        n, c, h, w = x.shape
        size = min(self.options.group or n, n)
        y = x.reshape(size, n // size, c, h, w)
        y = (y.var(0, unbiased=False) + 1e-8).sqrt().mean((1, 2, 3))
        return torch.cat([x, y.repeat(size)[:, None, None, None].expand(n, 1, h, w)], 1)


def r1(d: Discriminator, real: torch.Tensor) -> torch.Tensor:
    """The mean squared length of D's gradient at pictures."""
    real = real.detach().requires_grad_()
    (slope,) = torch.autograd.grad(d(real).sum(), real, create_graph=True)
    return slope.square().sum((1, 2, 3)).mean()


def path_penalty(
    g: Generator,
    z: torch.Tensor,
    y: torch.Tensor,
    *,
    mean: float = 0.0,
    decay: float = 0.01,
    noise: str = "const",
) -> torch.Tensor:
    """The mean squared distance of path lengths to their running mean, which was `mean`."""
    ws = g.codes(z)
    along = (g.synthesis(ws, noise) * y).sum() / y.shape[2]
    (slope,) = torch.autograd.grad(along, ws, create_graph=True)
    lengths = slope.square().sum(2).mean(1).sqrt()
    return (lengths - (mean + decay * (lengths.mean() - mean))).square().mean()


@dataclasses.dataclass
class Losses:
    """The losses of the phases of `methods.stylegan2_ada`, without mixing and augmentation."""

    method: Any

    def g(self, nets: Any, real: torch.Tensor, draws: Draws) -> torch.Tensor:
        """G is good where D takes its pictures for real."""
        fake = nets.g.synthesis(nets.g.codes(draws["z"]), "random")
        return F.softplus(-nets.d(fake)).mean()

    def d(self, nets: Any, real: torch.Tensor, draws: Draws) -> torch.Tensor:
        """D tells real pictures from G's."""
        with torch.no_grad():
            fake = nets.g.synthesis(nets.g.codes(draws["z"]), "random")
        return F.softplus(nets.d(fake)).mean() + F.softplus(-nets.d(real)).mean()

    def r1(self, nets: Any, real: torch.Tensor, draws: Draws) -> torch.Tensor:
        """The squared gradient of D at real pictures."""
        return r1(nets.d, real) * (self.method.r1_gamma / 2 * self.method.r1_every)

    def path(self, nets: Any, real: torch.Tensor, draws: Draws) -> torch.Tensor:
        """Squared distances of path lengths to their running mean, which starts at 0 here."""
        penalty = path_penalty(
            nets.g, draws["z"], draws["y"], decay=self.method.path_decay, noise="random"
        )
        return penalty * (self.method.path_weight * self.method.path_every)


class Nets:
    """G and D under their names."""

    def __init__(self, method: Any, arrays: Mapping[str, Any], form: str, device: str):
        self.g = Generator(method.generator, arrays["g"], form=form, device=device)
        self.d = Discriminator(method.discriminator, arrays["d"], device=device)


TRAINS = {"g": "g", "path": "g", "d": "d", "r1": "d"}


class Step:
    """Some phases in turn, each with its optimiser's step, as in the authors' loop."""

    def __init__(
        self,
        method: Any,
        optim: Mapping[str, Any],
        arrays: Mapping[str, Any],
        phases: tuple[str, ...],
        *,
        form: str = "scaled",
        device: str = "cpu",
    ):
        self.nets, self.losses = Nets(method, arrays, form, device), Losses(method)
        self.method, self.phases, self.device = method, phases, device
        self.optimisers = {}
        for name in ("g", "d"):
            adam, every = optim[name], optim[name].lazy_every
            share = every / (every + 1) if every > 1 else 1.0
            self.optimisers[name] = torch.optim.Adam(
                getattr(self.nets, name).parameters(),
                adam.lr * share,
                betas=(adam.b1**share, adam.b2**share),
                fused=True,
            )

    def __call__(self, real: torch.Tensor, draws: Mapping[str, Draws] | None = None) -> dict:
        """The losses of one step on pictures `[N, 3, H, W]` in [-1, 1]."""
        found = {}
        for phase in self.phases:
            found[phase] = self.loss(phase, real, (draws or {}).get(phase))
            self.optimisers[TRAINS[phase]].step()
        return found

    def loss(self, phase: str, real: torch.Tensor, draws: Draws | None = None) -> torch.Tensor:
        """The loss of one phase; its gradients are on the net it trains, and on no other."""
        trained = TRAINS[phase]
        for name in ("g", "d"):
            getattr(self.nets, name).requires_grad_(name == trained)
        self.optimisers[trained].zero_grad(set_to_none=True)
        value = getattr(self.losses, phase)(self.nets, real, draws or self._draw(phase, real))
        value.backward()
        return value.detach()

    def _draw(self, phase: str, real: torch.Tensor) -> Draws:
        count = max(1, len(real) // self.method.path_shrink) if phase == "path" else len(real)
        z = torch.randn(count, self.method.generator.z_size, device=self.device)
        return {"z": z, "y": torch.randn(count, *real.shape[1:], device=self.device)}
