"""Stands in for `python -m neuro4d_lib prepare|train`: same arguments, events and files, but nothing is learned.

A step takes 10 ms and the loss falls by rule. Like the real one it goes on from its last checkpoint when it is started
again. NEURO4D_FAKE makes it fail, crash, run for ever or start children.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import fake_worker

BEHAVIOR = os.environ.get("NEURO4D_FAKE", "")
SAVE_EVERY = 10


def say(event, **values):
    print(json.dumps({"event": event, **values}), flush=True)


def refuse(message):
    say("error", message=message)
    print(f"Error: {message}", file=sys.stderr)
    sys.exit(2)


def arguments():
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(dest="command", required=True)
    prepare = commands.add_parser("prepare")
    prepare.add_argument("study", type=Path)
    prepare.add_argument("--columns")
    prepare.add_argument("--files")
    prepare.add_argument("--output", type=Path, required=True)
    prepare.add_argument("--workers", type=int)
    prepare.add_argument("--quick", action="store_true")
    prepare.add_argument("--estimate", action="store_true")
    prepare.add_argument("--progress", choices=["json"], required=True)
    train = commands.add_parser("train")
    train.add_argument("prepared", type=Path, nargs="?")
    train.add_argument("--output", type=Path, required=True)
    train.add_argument("--from", dest="start", type=Path)
    train.add_argument("--config", type=Path)
    train.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    train.add_argument("--estimate", action="store_true")
    train.add_argument("--progress", choices=["json", "none"], required=True)
    return parser.parse_args()


def misbehave():
    texts = {
        "memory": "MemoryError",
        "gpu": "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB",
        "space": "OSError: [Errno 28] No space left on device",
        "package": "ModuleNotFoundError: No module named 'nilearn'",
        "strange": "ZeroDivisionError: division by zero",
    }
    if BEHAVIOR in texts:
        print(f"Traceback (most recent call last):\n{texts[BEHAVIOR]}", file=sys.stderr)
        sys.exit(1)
    if BEHAVIOR == "killed":
        os.kill(os.getpid(), 9)
    if BEHAVIOR == "input":
        refuse("The prepared study holds 1 subject. Expected at least 10.")
    if BEHAVIOR == "children":
        sleep = [sys.executable, "-c", "import time; time.sleep(60)"]
        children = [subprocess.Popen(sleep), subprocess.Popen(sleep, start_new_session=True)]
        say("progress", fraction=0.0, message=f"children {[child.pid for child in children]}", seconds_left=None)


def write(path, text):
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)


def train(options):
    if options.prepared is None and (options.start or options.estimate):
        refuse("--from and --estimate go with a prepared study. Name its folder: train PREPARED --output RUN.")
    settings = json.loads(options.config.read_text(encoding="utf-8"))
    steps = settings["training"]["steps"]
    if options.estimate:
        parts = {name: {"people": count} for name, count in (("train", 30), ("validation", 6), ("test", 5))}
        say("estimate", people=parts, **ESTIMATE)
        return
    misbehave()
    run = options.output
    state, log = run / "training_state.json", run / "log.jsonl"
    done = json.loads(state.read_text())["step"] if state.exists() else 0
    kept = [line for line in log.read_text().splitlines() if json.loads(line)["step"] <= done] if log.exists() else []
    write(log, "".join(line + "\n" for line in kept))
    write(run / "config.json", json.dumps(settings))
    with log.open("a", encoding="utf-8") as file:
        step = done
        while step < steps or BEHAVIOR == "endless":
            step += 1
            entry = {"step": step, "loss": 0.4 + 1 / (step + 1), "seconds": step / 100, "seconds_left": 1.0}
            if step % SAVE_EVERY == 0:
                entry |= {"validation_loss": 0.5 + 1 / step, "validation_without_network": 1.0, "best_step": step}
            print(json.dumps(entry), file=file, flush=True)
            say("step", **entry)
            say("progress", fraction=min(1, step / steps), message=f"Step {step} of {steps}", seconds_left=1.0)
            if step % SAVE_EVERY == 0:
                write(run / "weights.safetensors", f"weights of step {step}")
                write(state, json.dumps({"step": step}))
            time.sleep(0.01)
    model(run / "model")
    say("done", folder=str(run / "model"))


def model(folder):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "card.json").write_text(json.dumps({"name": "fake", "limits": "nothing was learned"}), encoding="utf-8")
    (folder / "weights.safetensors").write_bytes(b"")


ESTIMATE = {"seconds": 7200.0, "memory_bytes": 3.2e9, "disk_bytes": 0.4e9}


def prepare(options):
    if options.estimate:
        say("estimate", **ESTIMATE)
        return
    misbehave()
    about = options.output / "prepared.json"
    if options.output.exists() and any(options.output.iterdir()) and not about.exists():
        refuse(f"{options.output} is not empty and holds no prepared study. Choose a new folder.")
    options.output.mkdir(parents=True, exist_ok=True)
    write(about, json.dumps({"format": 1, "complete": False, "study": str(options.study), "subjects": {}}))
    count = 30
    for index in range(count):
        done = options.output / f"subject-{index}"
        if not done.exists():
            time.sleep(0.02 if BEHAVIOR != "slow" else 0.2)
            done.write_text("", encoding="utf-8")
        say("progress", fraction=(index + 1) / count, message=f"sub-{index:02d}", seconds_left=0.1)
    (options.output / "qc").mkdir(exist_ok=True)
    (options.output / "qc" / "index.html").write_text("<html></html>", encoding="utf-8")
    write(about, json.dumps({"format": 1, "complete": True, "study": str(options.study), "subjects": {}}))
    say("done", folder=str(options.output), used=29, excluded={"sub-07": "only one visit"}, page="")


def main():
    if sys.argv[1] == "forecast":
        fake_worker.main()
        return
    if sys.argv[1] == "study":  # nothing to stand in for: the real one takes a second
        from neuro4d_lib import cli

        sys.exit(cli.main(sys.argv[1:]))
    if sys.argv[1] == "model":
        model(Path(sys.argv[3]))
        return
    options = arguments()
    if options.command == "prepare":
        prepare(options)
    elif options.command == "train":
        train(options)


if __name__ == "__main__":
    main()
