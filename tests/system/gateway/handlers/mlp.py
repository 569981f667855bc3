"""Two inputs and two outputs of other datatypes; weights from a fixed seed."""
import numpy as np

import loam

random = np.random.default_rng(7)
W1 = random.standard_normal((64, 16)).astype(np.float32)
W2 = random.standard_normal((16, 10)).astype(np.float32)


@loam.signature(inputs={"image": ("UINT8", [-1, 8, 8]), "scale": ("FP64", [-1])},
                outputs={"digit": ("INT64", [-1]), "chance": ("FP32", [-1, 10])})
def predict(batch):
    pixels = batch["image"].reshape(-1, 64) * batch["scale"][:, None].astype(np.float32)
    scores = np.maximum(pixels @ W1, 0) @ W2
    scores = np.exp(scores - scores.max(axis=1, keepdims=True))
    chance = (scores / scores.sum(axis=1, keepdims=True)).astype(np.float32)
    return {"digit": chance.argmax(axis=1), "chance": chance}
