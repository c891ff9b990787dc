"""The shard of face-api.js's 68-point network: 8 bits a number, laid out as its manifest says."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from schemas.errors import RunError

_MANIFEST = (
    # (name, shape, scale, least): number = byte * scale + least. As published, in the shard's order.
    ("dense0/conv0/filters", (3, 3, 3, 32), 0.004853619781194949, -0.5872879935245888),
    ("dense0/conv0/bias", (32,), 0.004396426443960153, -0.7298067896973853),
    ("dense0/conv1/depthwise_filter", (3, 3, 32, 1), 0.00635151559231328, -0.5589333721235686),
    ("dense0/conv1/pointwise_filter", (1, 1, 32, 32), 0.009354315552057004, -1.2628325995276957),
    ("dense0/conv1/bias", (32,), 0.0029380727048013726, -0.5846764682554731),
    ("dense0/conv2/depthwise_filter", (3, 3, 32, 1), 0.0049374802439820535, -0.6171850304977566),
    ("dense0/conv2/pointwise_filter", (1, 1, 32, 32), 0.009941946758943446, -1.3421628124573652),
    ("dense0/conv2/bias", (32,), 0.0030300481062309416, -0.5272283704841838),
    ("dense0/conv3/depthwise_filter", (3, 3, 32, 1), 0.005672684837790097, -0.7431217137505026),
    ("dense0/conv3/pointwise_filter", (1, 1, 32, 32), 0.010712201455060173, -1.5639814124387852),
    ("dense0/conv3/bias", (32,), 0.0030966934035806097, -0.3839899820439956),
    ("dense1/conv0/depthwise_filter", (3, 3, 32, 1), 0.0039155554537679636, -0.48161332081345953),
    ("dense1/conv0/pointwise_filter", (1, 1, 32, 64), 0.01023082966898002, -1.094698774580862),
    ("dense1/conv0/bias", (64,), 0.0027264176630506327, -0.3871513081531898),
    ("dense1/conv1/depthwise_filter", (3, 3, 64, 1), 0.004583378632863362, -0.5454220573107401),
    ("dense1/conv1/pointwise_filter", (1, 1, 64, 64), 0.00915846403907327, -1.117332612766939),
    ("dense1/conv1/bias", (64,), 0.003091680419211294, -0.5966943209077797),
    ("dense1/conv2/depthwise_filter", (3, 3, 64, 1), 0.005407439727409214, -0.708374604290607),
    ("dense1/conv2/pointwise_filter", (1, 1, 64, 64), 0.00946493943532308, -1.2399070660273235),
    ("dense1/conv2/bias", (64,), 0.004409168514550901, -0.9788354102303),
    ("dense1/conv3/depthwise_filter", (3, 3, 64, 1), 0.004478132958505668, -0.6493292789833219),
    ("dense1/conv3/pointwise_filter", (1, 1, 64, 64), 0.011063695888893277, -1.2501976354449402),
    ("dense1/conv3/bias", (64,), 0.003909627596537272, -0.6646366914113363),
    ("dense2/conv0/depthwise_filter", (3, 3, 64, 1), 0.003213915404151468, -0.3374611174359041),
    ("dense2/conv0/pointwise_filter", (1, 1, 64, 128), 0.010917326048308728, -1.4520043644250609),
    ("dense2/conv0/bias", (128,), 0.002800439152063108, -0.38085972468058266),
    ("dense2/conv1/depthwise_filter", (3, 3, 128, 1), 0.0050568851770139206, -0.6927932692509071),
    ("dense2/conv1/pointwise_filter", (1, 1, 128, 128), 0.01074961213504567, -1.3222022926106174),
    ("dense2/conv1/bias", (128,), 0.0030654204242369708, -0.5487102559384177),
    ("dense2/conv2/depthwise_filter", (3, 3, 128, 1), 0.00591809165244009, -0.917304206128214),
    ("dense2/conv2/pointwise_filter", (1, 1, 128, 128), 0.01092823346455892, -1.366029183069865),
    ("dense2/conv2/bias", (128,), 0.002681120470458386, -0.36463238398234055),
    ("dense2/conv3/depthwise_filter", (3, 3, 128, 1), 0.0048311497650894465, -0.5797379718107336),
    ("dense2/conv3/pointwise_filter", (1, 1, 128, 128), 0.011227761062921263, -1.4483811771168429),
    ("dense2/conv3/bias", (128,), 0.0034643323982463162, -0.3360402426298927),
    ("dense3/conv0/depthwise_filter", (3, 3, 128, 1), 0.003394978887894574, -0.49227193874471326),
    ("dense3/conv0/pointwise_filter", (1, 1, 128, 256), 0.010051267287310432, -1.2765109454884247),
    ("dense3/conv0/bias", (256,), 0.003142924752889895, -0.4588670139219247),
    ("dense3/conv1/depthwise_filter", (3, 3, 256, 1), 0.00448304671867221, -0.5872791201460595),
    ("dense3/conv1/pointwise_filter", (1, 1, 256, 256), 0.016063522357566685, -2.3613377865623026),
    ("dense3/conv1/bias", (256,), 0.00287135781026354, -0.47664539650374765),
    ("dense3/conv2/depthwise_filter", (3, 3, 256, 1), 0.006002906724518421, -0.7923836876364315),
    ("dense3/conv2/pointwise_filter", (1, 1, 256, 256), 0.017087187019048954, -1.6061955797906016),
    ("dense3/conv2/bias", (256,), 0.003124481205846749, -0.46242321846531886),
    ("dense3/conv3/depthwise_filter", (3, 3, 256, 1), 0.006576311588287353, -1.0193282961845398),
    ("dense3/conv3/pointwise_filter", (1, 1, 256, 256), 0.015590153955945782, -1.99553970636106),
    ("dense3/conv3/bias", (256,), 0.004453541601405424, -0.6546706154065973),
    ("fc/weights", (256, 136), 0.010417488509533453, -1.500118345372817),
    ("fc/bias", (136,), 0.0025084222648658005, 0.07683877646923065),
)
"""`face_landmark_68_model-weights_manifest.json` at a86f011d."""


def read_landmarks68(path: Path) -> dict[str, NDArray[np.float32]]:
    """Return the network's numbers by name, kernels as (H, W, in, out). Raises RunError for a file of another size."""
    shard = np.fromfile(path, np.uint8)
    sizes = [int(np.prod(shape)) for _, shape, _, _ in _MANIFEST]
    if sum(sizes) != len(shard):
        raise RunError(f"{path}: expected {sum(sizes)} bytes, got {len(shard)}")
    parts = np.split(shard, np.cumsum(sizes)[:-1])
    return {
        # In 64 bits, then rounded once, as tfjs does it.
        name: (part.astype(np.float64) * scale + least).astype(np.float32).reshape(shape)
        for (name, shape, scale, least), part in zip(_MANIFEST, parts, strict=True)
    }
