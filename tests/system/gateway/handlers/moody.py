"""Does what the first number of the batch says."""
import os
import signal
import time

import numpy as np

import loam

FOLDER = os.environ["LOAM_TEST_FOLDER"]


def wait_for_go():
    """Until the test lets it go on, or has gone."""
    while os.path.isdir(FOLDER) and not os.path.exists(os.path.join(FOLDER, "go")):
        time.sleep(0.005)


@loam.signature(inputs={"x": ("FP32", [-1, 4])}, outputs={"y": ("FP32", [-1, 4])})
def predict(batch):
    x = batch["x"]
    mood = int(x[0, 0])
    with open(os.path.join(FOLDER, "calls"), "a") as calls:
        calls.write("%d %d\n" % (mood, len(x)))
    if mood == 1:
        raise ValueError("no mood for %g" % x[0, 1])
    if mood == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    if mood == 3:
        return {"y": np.zeros((len(x), 5), np.float32)}
    if mood == 4:
        return {"z": x}
    if mood == 5:
        return {"y": x.astype(np.float64)}
    if mood == 6:
        return [x]
    if mood == 7:
        return {}
    if mood == 8:  # until the test lets it go on
        wait_for_go()
    if mood == 9:  # leaves a fork with memfd and socket behind
        if os.fork() == 0:
            os.setsid()
            wait_for_go()
            os._exit(0)
        os.kill(os.getpid(), signal.SIGKILL)
    return {"y": x}
