"""What PyTorch takes on the same GPU: one inference, eager and as a CUDA graph, with and without LoRA beside every dense layer.

    python benches/cuda/pytorch.py [--compile] MODEL.pickle=FEATURES ...

MODEL.pickle is what benches/peers/graph.py makes of an ONNX file, for a GPU machine without the `onnx` package;
FEATURES is the tensor that ends the network. Medians of CUDA events over single runs, and the mean of runs in a row. With --compile
also of what torch.compile makes of it, with its own CUDA graphs: a minute and more a row, and "-" where it does not finish.
"""

import pathlib
import statistics
import sys

import torch

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "peers"))
from network import Network  # noqa: E402

RANK, ROUNDS = 8, 300


def model(path, features, dtype, rank):
    torch.manual_seed(0)
    network = Network(path, features)
    if rank:
        for layer in network.layers.values():
            if layer.groups == 1:
                layer.add_factors(rank)
    network = network.to("cuda", dtype, memory_format=torch.channels_last).eval()
    x = torch.full([max(1, extent) for extent in network.shape], 0.25, device="cuda", dtype=dtype)
    # Pictures; what is channels-last already is transposed in the network, which then is a view.
    return network, x.contiguous(memory_format=torch.channels_last) if network.shape[1:2] == [3] else x


def single(run):
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    times = []
    for _ in range(ROUNDS):
        start.record()
        run()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end) * 1e3)
    return statistics.median(times)


def in_a_row(run):
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    times = []
    for _ in range(9):
        start.record()
        for _ in range(ROUNDS):
            run()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end) * 1e3 / ROUNDS)
    return statistics.median(times)


def captured(network, x):
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(5):
            network(x)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        network(x)
    return graph


def compiled(network, x):
    """In a row, as text."""
    try:
        torch._dynamo.reset()
        fast = torch.compile(network, mode="reduce-overhead")
        for _ in range(5):
            fast(x)
        return f"{in_a_row(lambda: fast(x)):.1f}"
    except Exception as error:  # Whatever it says: another row is to be measured.
        print(f"torch.compile: {type(error).__name__}: {error}", file=sys.stderr)
        return "-"


@torch.inference_mode()
def main(arguments):
    compiles = "--compile" in arguments
    arguments = [argument for argument in arguments if argument != "--compile"]
    print(f"PyTorch {torch.__version__}, {torch.cuda.get_device_name()}, cuDNN benchmark on, channels last")
    torch.backends.cudnn.benchmark = True
    print("| model | type | eager µs | graph µs | graph in a row µs | with LoRA rank 8 in a row µs | ratio | torch.compile in a row µs |")
    print("|---|---|---|---|---|---|---|---|")
    for argument in arguments:
        path, features = argument.split("=")
        for dtype in (torch.float32, torch.float16):
            network, x = model(path, features, dtype, 0)
            for _ in range(10):
                network(x)
            eager = single(lambda: network(x))
            graph = captured(network, x)
            one, base = single(graph.replay), in_a_row(graph.replay)
            adapted = in_a_row(captured(*model(path, features, dtype, RANK)).replay)
            name, kind = pathlib.Path(path).stem, str(dtype).removeprefix("torch.")
            fast = compiled(network, x) if compiles else "-"
            print(f"| {name} | {kind} | {eager:.1f} | {one:.1f} | {base:.1f} | {adapted:.1f} | {adapted / base:.3f} | {fast} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
