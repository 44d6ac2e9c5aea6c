"""AlexNet in flax.nnx, NHWC, in the one-column form of arXiv:1404.5997."""

from flax import nnx
from jax import Array

from bench.nets.blocks import he_normal, run_blocks

# Features, kernel, stride, padding, and whether a max-pool follows.
_LAYERS = (
    (64, 11, 4, 2, True),
    (192, 5, 1, 2, True),
    (384, 3, 1, 1, False),
    (256, 3, 1, 1, False),
    (256, 3, 1, 1, True),
)


class Layer(nnx.Module):
    """Convolution, ReLU and, after some, a 3x3 max-pool with stride 2."""

    def __init__(
        self,
        features_in: int,
        features: int,
        kernel: int,
        stride: int,
        padding: int,
        is_pooled: bool,
        rngs: nnx.Rngs,
    ):
        self.conv = nnx.Conv(
            features_in,
            features,
            (kernel, kernel),
            strides=stride,
            padding=padding,
            kernel_init=he_normal,
            rngs=rngs,
        )
        self.is_pooled = is_pooled

    def __call__(self, x: Array) -> Array:
        x = nnx.relu(self.conv(x))
        return nnx.max_pool(x, (3, 3), strides=(2, 2)) if self.is_pooled else x


class AlexNet(nnx.Module):
    """Five convolutions, three dense layers: 61,100,840 parameters by default.

    No dropout, as in VGG16. `remat_blocks` checkpoints each convolution with its ReLU
    and max-pool. Images are `image_size` high and wide, at least 63.
    """

    def __init__(
        self,
        *,
        image_size: int = 224,
        num_classes: int = 1000,
        channels: int = 3,
        hidden: int = 4096,
        remat_blocks: bool = False,
        rngs: nnx.Rngs,
    ):
        layers = []
        size = image_size
        for features, kernel, stride, padding, is_pooled in _LAYERS:
            shape = (kernel, stride, padding, is_pooled)
            layers.append(Layer(channels, features, *shape, rngs))
            channels = features
            size = (size + 2 * padding - kernel) // stride + 1
            size = (size - 3) // 2 + 1 if is_pooled else size
        self.layers = nnx.List(layers)
        self.dense1 = nnx.Linear(size**2 * channels, hidden, rngs=rngs)
        self.dense2 = nnx.Linear(hidden, hidden, rngs=rngs)
        self.classifier = nnx.Linear(hidden, num_classes, rngs=rngs)
        self.remat_blocks = remat_blocks

    def __call__(self, x: Array) -> Array:
        x = run_blocks(self.layers, x, remat=self.remat_blocks)
        x = x.reshape(x.shape[0], -1)
        x = nnx.relu(self.dense1(x))
        x = nnx.relu(self.dense2(x))
        return self.classifier(x)
