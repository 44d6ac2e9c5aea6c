"""VGG16 without BatchNorm in flax.linen, NHWC: the same network as in `vgg`."""

from flax import linen as nn
from jax import Array

from bench.nets.vgg import STAGES


class VGG16(nn.Module):
    """138,357,544 parameters by default. `remat_blocks` checkpoints each stage."""

    num_classes: int = 1000
    hidden: int = 4096
    remat_blocks: bool = False

    @nn.compact
    def __call__(self, x: Array) -> Array:
        stage = nn.remat(Stage) if self.remat_blocks else Stage
        for index, (features, size) in enumerate(STAGES):
            x = stage(features, size, name=f"stage{index}")(x)
            x = nn.max_pool(x, (2, 2), strides=(2, 2))
        x = x.reshape(x.shape[0], -1)
        x = nn.relu(nn.Dense(self.hidden)(x))
        x = nn.relu(nn.Dense(self.hidden)(x))
        return nn.Dense(self.num_classes)(x)


class Stage(nn.Module):
    """`size` 3x3 convolutions with ReLU."""

    features: int
    size: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        init = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
        for _ in range(self.size):
            x = nn.relu(nn.Conv(self.features, (3, 3), kernel_init=init)(x))
        return x
