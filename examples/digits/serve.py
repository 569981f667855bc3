"""Answers which digit an image of 8×8 pixels (0..16) shows."""
import os

import numpy as np

import loam

weights = np.load(os.path.join(loam.model(), "weights.npz"))


@loam.signature(
    inputs={"image": ("FP32", [-1, 64])},
    outputs={"digit": ("INT64", [-1]), "chance": ("FP32", [-1, 10])},
)
def predict(batch):
    hidden = np.maximum(batch["image"] / 16 @ weights["w1"] + weights["b1"], 0)
    scores = hidden @ weights["w2"] + weights["b2"]
    scores = np.exp(scores - scores.max(axis=1, keepdims=True))
    chance = (scores / scores.sum(axis=1, keepdims=True)).astype(np.float32)
    return {"digit": chance.argmax(axis=1), "chance": chance}
