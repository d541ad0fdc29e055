#!/usr/bin/env python3
"""The UAV study: YAMNet and EfficientNet-Lite0 on log-mel images, by ten methods, with 0, 1 and 3 augmentations.

    cargo build --release -p ingraft-cli
    python3 benches/study/run.py OUT [--jobs 16] [--epochs 20] [--models lite0] [--sets uav_detect] [--augmentations 1,3] [--target cuda]

Needs the development data (INGRAFT_DATA, or `../shared/data` beside the repository). Compiles both models, then runs one
`ingraft study` for each model, data set and number of augmentations, on the committed folds with three seeds each, and writes into OUT the
JSON and the page of each, `index.html` with links to all, and `tables.md` with the tables of all that ended. Runs are kept in OUT/runs: what is there is not run
again, so that a study that was stopped goes on, and one made on several machines comes together. Patches of a clip follow each other without overlap. A clip has as many versions as
augmentations and one more, the first as it is; an epoch sees one of them, so that augmentations cost no training time.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
METHODS = "head,bias,lora,dora,shira,paca,rosa,ia3,ssf,full"
# Model of the data, its front end, and samples from one patch to the next: as many as a patch has, to a whole frame.
MODELS = {
    "yamnet": ("yamnet_audioset521_int8", "yamnet", 15520),
    "lite0": ("efficientnet_lite0_int8_qdq", "logmel-image", 35840),
}
SETS = ["uav_motor_prop", "uav_detect", "esc10_cc0"]
AUGMENTATIONS = [0, 1, 3]
# Changes that leave pitch and speed alone: they are what tells throttles apart.
AUGMENT = ["gain=-6..6", "rotate=0.5", "noise=15..30"]
COLUMNS = ["method", "accuracy", "95 % over clips", "by fold", "trained", "adapter bytes", "training memory, bytes", "s a run", "overhead"]


def main():
    args = arguments()
    args.out.mkdir(parents=True, exist_ok=True)
    for model in args.models:
        compile_model(args, model)
    failed = False
    for augmentations in args.augmentations:
        for name in args.sets:
            for model in args.models:
                failed |= not study(args, model, name, augmentations)
    (args.out / "tables.md").write_text("\n".join(tables(args.out)))
    (args.out / "index.html").write_text(page(args.out))
    sys.exit(failed)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=pathlib.Path, metavar="OUT")
    listed = lambda allowed: lambda text: [choice(item, allowed) for item in text.split(",")]
    parser.add_argument("--models", type=listed(list(MODELS)), default=list(MODELS), help=",".join(MODELS))
    parser.add_argument("--sets", type=listed(SETS), default=SETS, help=",".join(SETS))
    numbers = listed([str(number) for number in AUGMENTATIONS])
    parser.add_argument("--augmentations", type=lambda text: [int(n) for n in numbers(text)], default=AUGMENTATIONS, help="0,1,3")
    parser.add_argument("--methods", default=METHODS)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=3, help="of training, for every fold")
    parser.add_argument("--folds", type=int, help="only the first so many")
    parser.add_argument("--target", default="native", help="where to train; results of two targets may differ in the last bits")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--limit", type=float, help="seconds that one study may take; what takes longer is left out")
    parser.add_argument("--ingraft", type=pathlib.Path, default=ROOT / "target/release/ingraft")
    data = os.environ.get("INGRAFT_DATA", ROOT.parent / "shared/data")
    parser.add_argument("--data", type=pathlib.Path, default=pathlib.Path(data))
    return parser.parse_args()


def choice(item, allowed):
    if item not in allowed:
        raise argparse.ArgumentTypeError(f"{item} is none of {', '.join(allowed)}")
    return item


def compile_model(args, model):
    onnx, front_end, hop = MODELS[model]
    plan = args.out / f"{model}.plan"
    if plan.exists():
        return
    command = [args.ingraft, "compile", args.data / f"models/onnx/{onnx}.onnx", "-o", plan, "--dim", "N=1"]
    command += ["--front-end", front_end, "--hop", str(hop), "--train-from", "late", "--head-classes", "16"]
    subprocess.run([str(word) for word in command], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def study(args, model, name, augmentations):
    """Runs one study, unless it is there; whether it is now."""
    title = f"{model}-{name}-{augmentations}"
    result = args.out / f"{title}.json"
    if result.exists():
        return True
    command = [args.ingraft, "study", args.out / f"{model}.plan", "--data", args.data / "audio" / name]
    command += ["--methods", args.methods, "--sites", "late", "--epochs", args.epochs, "--batch", args.batch]
    command += ["--seeds", args.seeds, "--target", args.target, "--runs", args.out / "runs"]
    command += [word for path in splits(args, name) for word in ("--split", path)]
    if augmentations:
        command += [word for step in AUGMENT for word in ("--augment", step)]
        command += ["--views", augmentations + 1, "--pitch-is-label"]
    command += ["--jobs", args.jobs, "--html", args.out / f"{title}.html", "--json"]
    started = time.monotonic()
    try:
        run = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, timeout=args.limit, check=False)
    except subprocess.TimeoutExpired:
        print(f"{title}: not done in {args.limit:.0f} s", flush=True)
        return False
    seconds = time.monotonic() - started
    print(f"{title}: {seconds:.0f} s, exit {run.returncode}", flush=True)
    if run.returncode:
        return False
    result.write_text(json.dumps({"title": title, "wall": seconds, "jobs": args.jobs, "batch": args.batch, "seeds": args.seeds, **json.loads(run.stdout)}, indent=1))
    return True


def splits(args, name):
    """The committed folds, or the first of them, each as a file of its own."""
    whole = ROOT / f"tests/data/splits/{name}.csv"
    if args.folds is None:
        return [whole]
    header, *rows = whole.read_text().splitlines()
    paths = []
    for fold in range(args.folds):
        sides = (row.split(",", 1) for row in rows)
        lines = [f"{'test' if number == str(fold) else 'train'},{file}" for number, file in sides]
        paths.append(args.out / f"{name}-{fold}.csv")
        paths[-1].write_text("\n".join([header, *lines, ""]))
    return paths


def tables(out):
    """Every study that ended, as Markdown: accuracies side by side for each model, then all figures of each study."""
    reports = ended(out)
    for model in MODELS:
        yield from overview({title: report for title, report in reports.items() if title[0] == model})
    for title, report in reports.items():
        yield from table(report, title)


def ended(out):
    """The reports there are, by model, data set and number of augmentations."""
    titles = [(model, name, number) for model in MODELS for name in SETS for number in AUGMENTATIONS]
    paths = {title: out / "{}-{}-{}.json".format(*title) for title in titles}
    return {title: json.loads(path.read_text()) for title, path in paths.items() if path.exists()}


def overview(reports):
    """Accuracy by method and study, and what methods cost."""
    if not reports:
        return
    (model, *_), first = next(iter(reports.items()))
    yield f"## {model}\n"
    titles = [f"`{name}` +{number}" for _, name, number in reports]
    yield "| method | " + " | ".join(titles) + " | trained | adapter | training memory |"
    yield "|" + " --- |" * (len(titles) + 4)
    rows = {title: {row["method"]: row for row in report["methods"]} for title, report in reports.items()}
    for method in METHODS.split(","):
        of = [rows[title].get(method) for title in reports]
        accuracies = [f"{row['accuracy']:.3f}" if row and row["accuracy"] is not None else "" for row in of]
        row = next((row for row in of if row and row["accuracy"] is not None), None)
        if row is None:
            continue
        costs = [str(row["trained_parameters"]), f"{row['adapter_bytes'] / 1e3:.0f} kB", f"{row['arena_bytes'] / 1e6:.1f} MB"]
        yield "| " + " | ".join([f"`{method}`", *accuracies, *costs]) + " |"
    yield ""


def page(out):
    """One page over all studies, with the accuracies and a link to the page of each."""
    rows = []
    for (model, name, number), report in ended(out).items():
        found = {row["method"]: row for row in report["methods"]}
        cells = [f"<a href='{model}-{name}-{number}.html'>{model}, {name}</a>", str(number), str(report["epochs"])]
        for method in METHODS.split(","):
            accuracy = found.get(method, {}).get("accuracy")
            cells.append("" if accuracy is None else f"{accuracy:.3f}")
        rows.append(cells)
    head = ["study", "augmentations", "epochs", *METHODS.split(",")]
    line = lambda tag, cells: "<tr>" + "".join(f"<{tag}>{cell}</{tag}>" for cell in cells) + "</tr>"
    body = line("th", head) + "".join(line("td", cells) for cells in rows)
    style = "body{font:15px/1.5 system-ui,sans-serif;margin:2rem}td,th{padding:.2rem .5rem;text-align:right}td:first-child{text-align:left}"
    return (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'><title>UAV study</title>"
        f"<style>{style}</style></head><body><h1>UAV study</h1><p>Accuracy over all test clips.</p><table>{body}</table></body></html>\n"
    )


def table(report, title):
    model, name, augmentations = title
    clips, classes, runs = report["clips"], len(report["classes"]), report["runs"]
    yield f"### {model}, `{name}`, {augmentations} augmentations\n"
    yield f"{clips} clips of {classes} classes, {runs // report['seeds']} folds, {report['seeds']} seeds, {report['epochs']} epochs in batches of {report['batch']}, target `{report['target']}`. {report['wall']:.0f} s, {report['jobs']} runs side by side.\n"
    yield "| " + " | ".join(COLUMNS) + " |\n|" + " --- |" * len(COLUMNS)
    for method in report["methods"]:
        if method["refused"]:
            yield f"| `{method['method']}` | refused: {method['refused']} |" + " |" * (len(COLUMNS) - 2)
            continue
        low, high = method["interval"]
        cells = [f"`{method['method']}`", f"{method['accuracy']:.3f}", f"{low:.3f} to {high:.3f}"]
        cells += [f"{min(method['by_run']):.2f} to {max(method['by_run']):.2f}", str(method["trained_parameters"])]
        cells += [str(method["adapter_bytes"]), str(method["arena_bytes"]), f"{method['seconds']:.1f}", f"{100 * method['overhead']:+.0f} %"]
        yield "| " + " | ".join(cells) + " |"
    yield ""


if __name__ == "__main__":
    main()
