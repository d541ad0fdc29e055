// Everything that goes into one image: a family a file.
#include "arithmetic.cu"
#include "backward.cu"
#include "cast.cu"
#include "conv.cu"
#include "conv_half.cu"
#include "conv_rows.cu"
#include "depthwise.cu"
#include "descent.cu"
#include "dynamic.cu"
#include "elementwise.cu"
#include "gather.cu"
#include "head.cu"
#include "layer_backward.cu"
#include "matmul.cu"
#include "matmul_backward.cu"
#include "matmul_half.cu"
#include "movement.cu"
#include "pool.cu"
#include "qconv.cu"
#include "qdepthwise.cu"
#include "real_backward.cu"
#include "recurrent.cu"
#include "reduce.cu"
#include "row_backward.cu"
#include "rows.cu"
#include "softmax.cu"
#include "spatial.cu"
#include "types.cuh"

/// Bytes of every record, in the order of the test that compares them with the host's.
extern "C" __global__ void record_sizes(u32* out) {
    const u32 sizes[] = {sizeof(Terms), sizeof(Moved), sizeof(QConv), sizeof(Pool), sizeof(Pair), sizeof(Rescale),
                         sizeof(Lookup), sizeof(QSoftmax), sizeof(Copy), sizeof(Fill), sizeof(Head),
                         sizeof(LayerBackward), sizeof(Descent), sizeof(Lanes), sizeof(SumParts), sizeof(GatherBack), sizeof(LookupBack), sizeof(PoolBack),
                         sizeof(Conv), sizeof(DynamicConv), sizeof(MatMul), sizeof(Binary), sizeof(Unary),
                         sizeof(Select), sizeof(Cast), sizeof(Gather), sizeof(Elements), sizeof(Reduce),
                         sizeof(ArgReduce), sizeof(Softmax), sizeof(Norm), sizeof(Resize), sizeof(DynamicQuantize),
                         sizeof(Recurrent), sizeof(Mask), sizeof(HalfConv), sizeof(HalfPack),
                         sizeof(UnaryBack), sizeof(Gathered), sizeof(ReduceBack), sizeof(SoftmaxBack), sizeof(NormBack),
                         sizeof(MatMulBack), sizeof(PickBack)};
    for (i32 i = 0; i < sizeof(sizes) / sizeof(u32); i++) out[i] = sizes[i];
}
