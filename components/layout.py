"""Operations over the samples of windows, (batch, W, L), that are fast although the leads lie innermost.

TensorFlow's broadcasts and reductions over a middle dimension are slow on a CPU where the innermost one is as short as
the number of leads: a factor for each lead, applied to a window, takes ten times what the multiplication itself does.
So factors are spread over the samples by a product with ones and zeros, which is exact, and reductions fold several
samples into the innermost dimension first.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import tensorflow as tf

_MOST_FOLDED = 16  # samples side by side: with two leads enough for the widest registers


def over_samples(by_lead: tf.Tensor, window_samples: int) -> tf.Tensor:
    """The same at every sample: finite float32 (batch, L) to (batch, W, L)."""
    n_leads = by_lead.shape[-1]
    spread = np.tile(np.eye(n_leads, dtype=np.float32), (1, window_samples))
    return tf.reshape(tf.matmul(by_lead, spread), (-1, window_samples, n_leads))


def reduce_samples(reduce: Callable[..., tf.Tensor], windows: tf.Tensor) -> tf.Tensor:
    """`tf.reduce_max` or the like over the samples: (batch, W, L) to (batch, L)."""
    _, w, n_leads = windows.shape
    fold = next(size for size in range(_MOST_FOLDED, 0, -1) if w % size == 0)
    folded = reduce(tf.reshape(windows, (-1, w // fold, fold * n_leads)), axis=1)
    return reduce(tf.reshape(folded, (-1, fold, n_leads)), axis=1)


def by_lead(weights: npt.NDArray[np.float32], n_leads: int) -> npt.NDArray[np.float32]:
    """What weighs the samples of each lead alike: weights (k, W) to a matrix (W * L, k * L) for flat windows."""
    return np.kron(weights.T, np.eye(n_leads, dtype=np.float32))


def averages(windows: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """Weighted means of windows: (batch, W, L) by weights (W * L, n), see `by_lead`, to (batch, n).

    The weights go first into the product: LiteRT takes what comes second for the kernel of a layer and may store it,
    and what is multiplied with it, in 8 bits; squared errors do not bear that.
    """
    _, w, n_leads = windows.shape
    flat = tf.reshape(windows, (-1, w * n_leads))
    return tf.transpose(tf.matmul(weights, flat, transpose_a=True, transpose_b=True))
