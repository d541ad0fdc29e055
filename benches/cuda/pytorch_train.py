"""What PyTorch takes on the same GPU: a training step of a float network, with a head of ten classes.

    python benches/cuda/pytorch_train.py MODEL.pickle=FEATURES[:LATE] ...

MODEL.pickle is what benches/peers/graph.py makes of an ONNX file; FEATURES is the tensor that ends the network, LATE the
number of dense layers before it that `late` trains. Forward, backward and fused AdamW; eager, and as one CUDA graph.
Medians of CUDA events over single steps on a batch that is on the GPU already; memory is the most that PyTorch had allocated.
"""

import pathlib
import statistics
import sys

import torch

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "peers"))
from network import Network  # noqa: E402

RANK, CLASSES, ROUNDS, RATE = 8, 10, 50, 1e-9


def build(path, features, batch, dense):
    """Network, batch and the step; factors beside the last `dense` dense layers, all for None."""
    torch.manual_seed(0)
    network = Network(path, features, CLASSES)
    layers = [layer for layer in network.layers.values() if layer.groups == 1]
    for layer in layers[len(layers) - (len(layers) if dense is None else dense) :]:
        layer.add_factors(RANK)
    network = network.to("cuda", memory_format=torch.channels_last)
    shape = [max(1, extent) for extent in network.shape][1:]
    x = torch.rand(batch, *shape, device="cuda") * 2 - 1
    if shape[:1] == [3]:
        x = x.contiguous(memory_format=torch.channels_last)
    classes = torch.arange(batch, device="cuda") % CLASSES
    trained = [p for p in network.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=RATE, weight_decay=0.01, fused=True, capturable=True)

    def step():
        optimizer.zero_grad(set_to_none=True)
        torch.nn.functional.cross_entropy(network(x), classes).backward()
        optimizer.step()

    return step, sum(p.numel() for p in trained)


def median(run):
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    times = []
    for _ in range(ROUNDS):
        start.record()
        run()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end) * 1e3)
    return statistics.median(times)


def captured(step):
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph


def measure(path, features, late):
    for case, dense in (("head", 0), ("lora late", late), ("lora all", None)):
        for batch in (1, 16):
            torch.cuda.empty_cache()
            step, trained = build(path, features, batch, dense)
            for _ in range(5):
                step()
            # What cuDNN tried out to find its fastest kernels is not counted.
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            eager, memory = median(step), torch.cuda.max_memory_allocated()
            graph = median(captured(step).replay)
            name = pathlib.Path(path).stem
            print(f"| {name} | {case} | {batch} | {trained} | {eager:.0f} | {graph:.0f} | {memory / 1e6:.1f} |", flush=True)
            del step


def main(arguments):
    print(f"PyTorch {torch.__version__}, {torch.cuda.get_device_name()}, cuDNN benchmark on, channels last, f32")
    torch.backends.cudnn.benchmark = True
    print("| model | case | batch | trained | eager µs | graph µs | MB |")
    print("|---|---|---|---|---|---|---|")
    for argument in arguments:
        path, features = argument.split("=")
        features, _, late = features.partition(":")
        measure(path, features, int(late))


if __name__ == "__main__":
    main(sys.argv[1:])
