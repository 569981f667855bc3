"""20 ms a call; notes each call and whether its input lies in the channel's memfd."""
import os
import time

import loam

CALLS = os.path.join(os.environ["LOAM_TEST_FOLDER"], "calls")


def lies_in_memfd(array):
    address = array.__array_interface__["data"][0]
    with open("/proc/self/maps") as maps:
        for line in maps:
            begin, end = (int(part, 16) for part in line.split()[0].split("-"))
            if begin <= address and address + array.nbytes <= end:
                return "memfd:loam-channel" in line
    return False


@loam.signature(inputs={"x": ("FP32", [-1, 4])}, outputs={"y": ("FP32", [-1, 4])})
def predict(batch):
    with open(CALLS, "a") as calls:
        calls.write("%d %s\n" % (len(batch["x"]), lies_in_memfd(batch["x"])))
    time.sleep(0.02)
    return {"y": batch["x"] * 2}
