"""The U-Net in flax.nnx, NHWC (Ronneberger et al., arXiv:1505.04597).

The original: one channel in, two classes out, convolutions without padding or
normalisation, skips cropped, 2x2 transposed convolutions. 572x572 images give 388x388.
"""

import jax.numpy as jnp
from flax import nnx
from jax import Array

from bench.nets.blocks import he_normal, run_block

_WIDTHS = (64, 128, 256, 512, 1024)


def _conv(features_in: int, features: int, rngs: nnx.Rngs) -> nnx.Conv:
    return nnx.Conv(
        features_in,
        features,
        (3, 3),
        padding="VALID",
        kernel_init=he_normal,
        rngs=rngs,
    )


class DoubleConv(nnx.Module):
    """Two 3x3 convolutions with ReLU: four rows and columns fewer."""

    def __init__(self, features_in: int, features: int, rngs: nnx.Rngs):
        self.conv1 = _conv(features_in, features, rngs)
        self.conv2 = _conv(features, features, rngs)

    def __call__(self, x: Array) -> Array:
        return nnx.relu(self.conv2(nnx.relu(self.conv1(x))))


class Up(nnx.Module):
    """Twice the height and width, beside the cropped skip, and two convolutions."""

    def __init__(self, features_in: int, features: int, rngs: nnx.Rngs):
        self.widen = nnx.ConvTranspose(
            features_in, features, (2, 2), (2, 2), padding="VALID", rngs=rngs
        )
        self.convs = DoubleConv(2 * features, features, rngs)

    def __call__(self, x: Array, skip: Array) -> Array:
        x = self.widen(x)
        top = (skip.shape[1] - x.shape[1]) // 2
        left = (skip.shape[2] - x.shape[2]) // 2
        skip = skip[:, top:, left:][:, : x.shape[1], : x.shape[2]]
        return self.convs(jnp.concatenate([skip, x], axis=-1))


class UNet(nnx.Module):
    """Four steps down, four up: 31,030,658 parameters by default.

    `remat_blocks` checkpoints each pair of convolutions. Height and width must be
    `16 k + 12`, at least 188: then every max-pool halves an even size.
    """

    def __init__(
        self,
        *,
        num_classes: int = 2,
        channels: int = 1,
        remat_blocks: bool = False,
        rngs: nnx.Rngs,
    ):
        downs = []
        for features in _WIDTHS:
            downs.append(DoubleConv(channels, features, rngs))
            channels = features
        self.downs = nnx.List(downs)
        ups = []
        for features in _WIDTHS[-2::-1]:
            ups.append(Up(channels, features, rngs))
            channels = features
        self.ups = nnx.List(ups)
        self.classifier = nnx.Conv(channels, num_classes, (1, 1), rngs=rngs)
        self.remat_blocks = remat_blocks

    def __call__(self, x: Array) -> Array:
        skips: list[Array] = []
        for down in self.downs:
            if skips:
                x = nnx.max_pool(x, (2, 2), strides=(2, 2))
            x = run_block(down, x, remat=self.remat_blocks)
            skips.append(x)
        for up, skip in zip(self.ups, skips[-2::-1], strict=True):
            x = run_block(up, x, skip, remat=self.remat_blocks)
        return self.classifier(x)
