"""One tensor of every datatype that a request can carry, given back as it came."""
import loam

NAMES = ["BOOL", "UINT8", "UINT64", "INT8", "INT32", "INT64", "FP16", "FP64"]


@loam.signature(inputs={"in_" + name: (name, [-1, 2]) for name in NAMES},
                outputs={"out_" + name: (name, [-1, 2]) for name in NAMES})
def predict(batch):
    return {"out_" + name: batch["in_" + name] for name in NAMES}
