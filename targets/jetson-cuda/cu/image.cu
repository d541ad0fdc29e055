// Everything that goes into one image: a family a file.
#include "backward.cu"
#include "elementwise.cu"
#include "head.cu"
#include "layer_backward.cu"
#include "movement.cu"
#include "pool.cu"
#include "qconv.cu"
#include "qdepthwise.cu"
#include "softmax.cu"
#include "types.cuh"

/// Bytes of every record, in the order of the test that compares them with the host's.
extern "C" __global__ void record_sizes(u32* out) {
    const u32 sizes[] = {sizeof(Terms), sizeof(QConv), sizeof(Pool), sizeof(Pair), sizeof(Rescale),
                         sizeof(Lookup), sizeof(QSoftmax), sizeof(Copy), sizeof(Fill), sizeof(Head),
                         sizeof(LayerBackward), sizeof(SumParts), sizeof(GatherBack), sizeof(LookupBack), sizeof(PoolBack)};
    for (i32 i = 0; i < sizeof(sizes) / sizeof(u32); i++) out[i] = sizes[i];
}
