"""Finds the closure of the wanted wheels with pip and downloads it (src/env/wheels.cc).

    requirements ── pip install --dry-run --report ──▶ closure ── pip download --no-deps, by hash ──▶ OUT/*.whl
                                                                                     └──▶ OUT/wheels.json

Runs on the environment's own Python (3.7 or newer), so that tags, markers and what apt installed are that
environment's. Wheels only: nothing that is downloaded is executed. A failure is told in OUT/error.txt.
"""
import argparse
import difflib
import glob
import hashlib
import json
import os
import platform
import re
import subprocess
import sys

PINNED = "pinned.txt"

# What a misspelled name may have meant. Not the nearest of all names of an index: those are often somebody's trap for
# just this misspelling.
IMPORTED_AS = {
    "attr": "attrs", "bs4": "beautifulsoup4", "cv2": "opencv-python-headless", "dateutil": "python-dateutil",
    "dotenv": "python-dotenv", "faiss": "faiss-cpu", "fitz": "pymupdf", "git": "gitpython", "jwt": "pyjwt", "msgpack-python": "msgpack",
    "opencv": "opencv-python-headless", "pil": "pillow", "psycopg2": "psycopg2-binary", "pytorch": "torch", "pytorch-lightning": "lightning",
    "skimage": "scikit-image", "sklearn": "scikit-learn", "tf": "tensorflow", "umap": "umap-learn", "yaml": "pyyaml"}
WELL_KNOWN = sorted(set(IMPORTED_AS.values()) | set("""
    absl-py accelerate aiohttp albumentations altair apscheduler asyncpg bitsandbytes black bokeh boto3 botocore catboost celery certifi
    charset-normalizer click cloudpickle confluent-kafka cryptography cupy cython dask datasets deepspeed diffusers django docker duckdb
    einops evaluate faker fastapi filelock flask flax fsspec gensim google-cloud-storage gradio grpcio gunicorn h5py httpx
    huggingface-hub hydra-core idna imageio ipykernel ipython jax jaxlib jinja2 joblib jsonschema jupyter jupyterlab kafka-python keras
    kornia langchain librosa lightgbm litdata litserve llvmlite lxml markdown matplotlib mlflow mosaicml-streaming msgpack mypy
    networkx ninja nltk notebook numba numpy omegaconf onnx onnxruntime onnxruntime-gpu openai optax optuna orjson packaging pandas
    peft plotly polars prometheus-client protobuf psutil psycopg pyarrow pydantic pytest pyzmq ray redis regex requests rich ruff s3fs
    safetensors scipy seaborn sentence-transformers sentencepiece setuptools shap six spacy sqlalchemy starlette statsmodels sympy tables
    tensorboard tensorflow tiktoken timm tokenizers tomli toolz torch torchaudio torchmetrics torchvision tqdm transformers triton
    tritonclient trl typer typing-extensions ultralytics urllib3 uvicorn vllm wandb webdataset wheel xarray xgboost zarr zstandard
    """.split()))


def run_pip(pip, arguments, tell=True):
    """Runs pip, passes its lines on as progress where they are to be told, returns (status, lines)."""
    environment = dict(os.environ, PYTHONPATH=pip)
    process = subprocess.Popen(
        [sys.executable, "-s", "-m", "pip", "--disable-pip-version-check", "--no-input"] + arguments,
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True)
    lines = []
    for line in process.stdout:
        if tell:
            print(line, end="", flush=True)
        lines.append(line.rstrip())
    return process.wait(), lines


def here():
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    return "Python %d.%d on linux/%s" % (sys.version_info[0], sys.version_info[1], machine)


def suggestion(pip, name):
    """" (did you mean X?)", of names that the index has; "" for none."""
    known = IMPORTED_AS.get(name.lower())
    near = [known] if known else difflib.get_close_matches(normal(name), WELL_KNOWN, n=3, cutoff=0.7)
    for candidate in near:
        if run_pip(pip, ["index", "versions", candidate], tell=False)[0] == 0:
            return " (did you mean %s?)" % candidate
    return ""


def explain(pip, lines):
    """pip's own words, condensed; for a package without a fitting wheel, which of the three cases it is."""
    text = "\n".join(lines)
    wanted = re.search(r"No matching distribution found for (.+)", text)
    if wanted:
        requirement = wanted.group(1).strip()
        name = re.match(r"[A-Za-z0-9._-]*", requirement).group(0)
        versions = re.findall(r"from versions: ([^)]*)\)", text)
        if versions and versions[-1] != "none":
            newest = ", ".join(versions[-1].split(", ")[-5:])
            return "%s: no such version with a wheel for %s (the newest that have one: %s)" % (requirement, here(), newest)
        status, found = run_pip(pip, ["index", "versions", name])
        if status == 0:
            listed = [line for line in found if line.startswith("Available versions:")]
            detail = listed[0].split(":", 1)[1].strip() if listed else ""
            return "%s: has no wheel for %s, only source%s; name a version that has wheels, or take it from apt" % (
                requirement, here(), " (%s)" % ", ".join(detail.split(", ")[:5]) if detail else "")
        return "%s: no such package on the configured index%s" % (requirement, suggestion(pip, name))
    kept = [line.strip() for line in lines if re.match(r"ERROR: |    (The user requested|.* depends on) ", line)]
    return "; ".join(line[7:] if line.startswith("ERROR: ") else line for line in kept[:12]) or "; ".join(lines[-2:])


def give_up(out, text):
    with open(os.path.join(out, "error.txt"), "w") as file:
        file.write(text)
    sys.exit(1)


def closure(options):
    """The requirements file of exactly what pip would install: name==version with its hash."""
    report = os.path.join(options.out, "report.json")
    arguments = ["install", "--dry-run", "--no-user", "--report", report, "--only-binary=:all:",
                 "--progress-bar", "off", "-r", options.requirements]
    if options.ignore_installed:
        arguments.insert(1, "--ignore-installed")
    status, lines = run_pip(options.pip, arguments)
    if status != 0:
        give_up(options.out, explain(options.pip, lines))
    with open(report) as file:
        items = json.load(file)["install"]
    with open(options.requirements) as file:
        pinned = [line for line in file.read().splitlines() if line.startswith("-")]
    for item in items:
        metadata, source = item["metadata"], item["download_info"]
        direct = item.get("is_direct")
        line = "%s @ %s" % (metadata["name"], source["url"]) if direct else "%s==%s" % (metadata["name"], metadata["version"])
        hashes = source.get("archive_info", {}).get("hashes", {})
        if "sha256" in hashes:
            line += " --hash=sha256:" + hashes["sha256"]
        pinned.append(line)
    path = os.path.join(options.out, PINNED)
    with open(path, "w") as file:
        file.write("\n".join(pinned) + "\n")
    return path, items


def download(options, pinned):
    with open(pinned) as file:
        wanted = [line for line in file.read().splitlines() if line and not line.startswith("-")]
    if not wanted:
        return
    arguments = ["download", "--no-deps", "--only-binary=:all:", "--progress-bar", "off", "-d", options.out, "-r", pinned]
    # A folder of --find-links tells no hashes; those files are hashed when they have arrived.
    if all("--hash=" in line for line in wanted):
        arguments.insert(1, "--require-hashes")
    status, lines = run_pip(options.pip, arguments)
    if status != 0:
        give_up(options.out, explain(options.pip, lines))


def normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()  # PEP 503


def describe(path):
    """Name and version from a wheel's file name (PEP 427), its hash from its bytes."""
    file = os.path.basename(path)
    name, version = file.split("-")[:2]
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        for block in iter(lambda: stream.read(1 << 20), b""):
            digest.update(block)
    return {"name": normal(name), "version": version, "file": file, "sha256": digest.hexdigest()}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--pip", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--requirements", required=True)
    parser.add_argument("--fetch", action="store_true", help="the requirements are pinned already")
    parser.add_argument("--ignore-installed", action="store_true")
    options = parser.parse_args()
    pinned = options.requirements if options.fetch else closure(options)[0]
    download(options, pinned)
    wheels = [describe(path) for path in glob.glob(os.path.join(options.out, "*.whl"))]
    document = {"python": "%d.%d" % sys.version_info[:2],
                "wheels": sorted(wheels, key=lambda wheel: (wheel["name"], wheel["file"]))}
    with open(os.path.join(options.out, "wheels.json"), "w") as file:
        json.dump(document, file)


main()
