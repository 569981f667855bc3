def predict(batch):
    return batch
