"""Pixels as a net wants them: channels, type, scale and layout of its record."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from transforms.models.record import InputContract


def is_scaled(contract: InputContract) -> bool:
    """Return whether the net wants other values than pixels 0..255."""
    return (contract.scale, set(contract.mean), set(contract.std)) != (1.0, {0.0}, {1.0})


def prepared(pixels: NDArray[np.uint8], contract: InputContract) -> NDArray[Any]:
    """Return what the net takes for (n, H, W) gray or (n, H, W, 3) RGB: (pixel * scale - mean) / std, contiguous."""
    rows = arranged(pixels, contract)
    if contract.layout == "NCHW":
        rows = rows.transpose(0, 3, 1, 2)
    if contract.dtype == "uint8":
        return np.ascontiguousarray(rows)
    values = np.ascontiguousarray(rows, np.float32)
    if not is_scaled(contract):
        return values
    shape = (1, -1, 1, 1) if contract.layout == "NCHW" else (1, 1, 1, -1)
    mean, std = (np.array(each, np.float32).reshape(shape) for each in (contract.mean, contract.std))
    return np.asarray((values * np.float32(contract.scale) - mean) / std, np.float32)


def arranged(pixels: NDArray[np.uint8], contract: InputContract) -> NDArray[np.uint8]:
    """Return (n, H, W, C) with the channels in the net's order, still uint8."""
    if contract.colour == "gray":
        return pixels[..., None]
    return pixels[..., ::-1] if contract.colour == "bgr" else pixels
