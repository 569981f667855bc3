"""Fits a small network to a noisy function; saves every 200 steps and when it gets SIGUSR1."""
import argparse
import os
import signal
import sys

import torch

parser = argparse.ArgumentParser()
parser.add_argument("--steps", type=int, default=2000)
parser.add_argument("--save_steps", type=int, default=200)
parser.add_argument("--output_dir", default="checkpoints")
parser.add_argument("--resume_from_checkpoint")
arguments = parser.parse_args()

torch.manual_seed(1)
torch.set_num_threads(1)
torch.use_deterministic_algorithms(True)

inputs = torch.randn(4096, 8)
targets = torch.sin(inputs.sum(dim=1, keepdim=True)) + 0.05 * torch.randn(4096, 1)
model = torch.nn.Sequential(torch.nn.Linear(8, 128), torch.nn.Tanh(), torch.nn.Dropout(0.05), torch.nn.Linear(128, 1))
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
step = 0

if arguments.resume_from_checkpoint:
    state = torch.load(os.path.join(arguments.resume_from_checkpoint, "state.pt"), weights_only=True)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    torch.set_rng_state(state["random"])  # batches and dropout go on where they were
    step = state["step"]

asked = []
signal.signal(signal.SIGUSR1, lambda *_: asked.append(True))


def save():
    folder = os.path.join(arguments.output_dir, "checkpoint-%d" % step)
    os.makedirs(folder, exist_ok=True)
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "random": torch.get_rng_state(),
                "step": step}, os.path.join(folder, "state.pt"))


print("torch %s, from step %d" % (torch.__version__, step), flush=True)
while step < arguments.steps:
    batch = torch.randint(0, 4096, (256,))
    loss = torch.nn.functional.mse_loss(model(inputs[batch]), targets[batch])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    step += 1
    if step % arguments.save_steps == 0:
        save()
        print("step %d, loss %.6f" % (step, loss.item()), flush=True)
    if asked:
        save()
        sys.exit("asked to end: saved step %d" % step)

model.eval()
with torch.no_grad():
    print("final loss %.9f" % torch.nn.functional.mse_loss(model(inputs), targets).item(), flush=True)
