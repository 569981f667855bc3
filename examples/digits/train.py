"""Trains a small network (64 pixels, one hidden layer, 10 digits) with plain NumPy."""
import csv
import gzip
import os

import numpy as np

import loam

params = loam.params()


def load(path):
    """Images as (n, 64) float32 in 0..1, digits as (n,) int64."""
    with gzip.open(path, "rt") as lines:
        table = np.array([[int(value) for value in row] for row in csv.reader(lines)])
    return table[:, :64].astype(np.float32) / 16, table[:, 64]


def softmax(scores):
    scores = np.exp(scores - scores.max(axis=1, keepdims=True))
    return scores / scores.sum(axis=1, keepdims=True)


def forward(weights, images):
    hidden = np.maximum(images @ weights["w1"] + weights["b1"], 0)
    return hidden, softmax(hidden @ weights["w2"] + weights["b2"])


def step(weights, images, digits, rate):
    """One step of gradient descent on the cross entropy; returns the batch's mean loss."""
    hidden, chance = forward(weights, images)
    rows = np.arange(len(digits))
    loss = -np.log(chance[rows, digits] + 1e-9).mean()
    chance[rows, digits] -= 1
    chance /= len(digits)
    back = (chance @ weights["w2"].T) * (hidden > 0)
    weights["w2"] -= rate * hidden.T @ chance
    weights["b2"] -= rate * chance.sum(axis=0)
    weights["w1"] -= rate * images.T @ back
    weights["b1"] -= rate * back.sum(axis=0)
    return float(loss)


def accuracy(weights, images, digits):
    return float((forward(weights, images)[1].argmax(axis=1) == digits).mean())


def main():
    random = np.random.default_rng(params.seed)
    images, digits = load("data/digits.csv.gz")
    order = random.permutation(len(images))
    test, train = order[:360], order[360:]  # a fifth is held out and never trained on
    scale = lambda inputs: np.sqrt(2 / inputs)
    weights = {
        "w1": (random.standard_normal((64, params.hidden)) * scale(64)).astype(np.float32),
        "b1": np.zeros(params.hidden, np.float32),
        "w2": (random.standard_normal((params.hidden, 10)) * scale(params.hidden)).astype(np.float32),
        "b2": np.zeros(10, np.float32),
    }
    for epoch in range(1, params.epochs + 1):
        losses = []
        shuffled = random.permutation(train)
        for begin in range(0, len(shuffled), params.batch):
            rows = shuffled[begin:begin + params.batch]
            losses.append(step(weights, images[rows], digits[rows], params.learning_rate))
        loam.log(epoch=epoch, loss=float(np.mean(losses)))
        if epoch == 1 or epoch % 5 == 0:
            print(f"epoch {epoch:3d}  loss {np.mean(losses):.4f}")
    score = accuracy(weights, images[test], digits[test])
    loam.log(test_accuracy=score)
    print(f"test accuracy {score:.1%} on {len(test)} held-out digits")
    np.savez(os.path.join(loam.output(), "weights.npz"), **weights)


if __name__ == "__main__":
    main()
