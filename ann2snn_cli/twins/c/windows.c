/* Layers that slide a window over their input.
 *
 * Event driven: what comes in at one place goes out through all the synapses of that place. */

#include "windows.h"

#include <stdlib.h>

#define BELOW_ALL (-((int64_t)1 << 62)) /* sums have 62 bits at most */

/* The synapses of one place (z, y, x) of the input, the same in every channel: synapse p goes through tap[p]
 * of the kernel to output[p]. */
struct fan {
    const struct layer *in, *out;
    int64_t place;
    int64_t count, *tap, *output;
};

/* What a layer has while its places are visited. */
struct visit {
    const int64_t *x, *weights;
    int64_t *y;
};

typedef void visit_place(const struct fan *fan, const struct visit *visit);

/* The size of spatial axis z, y or x: the last axes of the shape, whose first one is the channels. */
static int64_t extent(const struct layer *layer, int axis)
{
    int at = axis + layer->rank - AXES;
    return at >= 1 ? layer->shape[at] : 1;
}

/* How many places a channel has. */
static int64_t plane(const struct layer *layer)
{
    return layer->size / layer->shape[0];
}

static int64_t taps(const struct layer *layer)
{
    return layer->kernel[0] * layer->kernel[1] * layer->kernel[2];
}

/* Along one axis: the output o that input i reaches through tap k, -1 where there is none.
 *     i = o*stride - padding + k*dilation
 *     o = i*stride - padding + k*dilation    in a transposed convolution */
static int64_t reached(const struct layer *layer, int axis, int64_t i, int64_t k)
{
    int64_t stride = layer->stride[axis], offset = k * layer->dilation[axis] - layer->padding[axis];
    int64_t o = i * stride + offset;
    if (layer->kind != CONV_TRANSPOSE) {
        if ((i - offset) % stride != 0)
            return -1;
        o = (i - offset) / stride;
    }
    return o >= 0 && o < extent(layer, axis) ? o : -1;
}

static void spread(struct fan *fan, const int64_t from[AXES])
{
    const struct layer *out = fan->out;
    fan->count = 0;
    for (int64_t kz = 0; kz < out->kernel[0]; kz++) {
        int64_t z = reached(out, 0, from[0], kz);
        for (int64_t ky = 0; z >= 0 && ky < out->kernel[1]; ky++) {
            int64_t y = reached(out, 1, from[1], ky);
            for (int64_t kx = 0; y >= 0 && kx < out->kernel[2]; kx++) {
                int64_t x = reached(out, 2, from[2], kx);
                if (x < 0)
                    continue;
                fan->tap[fan->count] = (kz * out->kernel[1] + ky) * out->kernel[2] + kx;
                fan->output[fan->count++] = (z * extent(out, 1) + y) * extent(out, 2) + x;
            }
        }
    }
}

/* Visits the places of the input in memory order. */
static void visit_places(const struct task *task, visit_place *act, const struct visit *visit)
{
    struct fan fan = {.in = source(task, 0), .out = task->layer, .place = 0};
    int64_t at[AXES];
    fan.tap = allocate(taps(fan.out));
    fan.output = allocate(taps(fan.out));
    for (at[0] = 0; at[0] < extent(fan.in, 0); at[0]++)
        for (at[1] = 0; at[1] < extent(fan.in, 1); at[1]++)
            for (at[2] = 0; at[2] < extent(fan.in, 2); at[2]++, fan.place++) {
                spread(&fan, at);
                act(&fan, visit);
            }
    free(fan.tap);
    free(fan.output);
}

/* One input channel ci of one place to all output channels of its group. */
static void conv_value(const struct fan *fan, const struct visit *visit, int64_t ci, int64_t value)
{
    const struct layer *out = fan->out;
    int64_t ins = fan->in->shape[0] / out->groups, outs = out->shape[0] / out->groups; /* of a group */
    for (int64_t c = 0; c < outs; c++) {
        int64_t co = ci / ins * outs + c;
        int64_t row = out->kind == CONV_TRANSPOSE ? ci * outs + c : co * ins + ci % ins;
        const int64_t *weights = visit->weights + row * taps(out);
        int64_t *y = visit->y + co * plane(out);
        for (int64_t p = 0; p < fan->count; p++)
            y[fan->output[p]] += weights[fan->tap[p]] * value;
    }
}

static void conv_place(const struct fan *fan, const struct visit *visit)
{
    for (int64_t ci = 0; ci < fan->in->shape[0]; ci++) {
        int64_t value = visit->x[ci * plane(fan->in) + fan->place];
        if (value != 0) /* no event, no work */
            conv_value(fan, visit, ci, value);
    }
}

void conv(const struct task *task, int64_t t)
{
    struct visit visit = {
        .x = input_at(task, 0, t), .weights = task->parameters[WEIGHT], .y = output_at(task, t)};
    visit_places(task, conv_place, &visit);
}

static void sum_place(const struct fan *fan, const struct visit *visit)
{
    for (int64_t c = 0; c < fan->in->shape[0]; c++)
        for (int64_t p = 0; p < fan->count; p++)
            visit->y[c * plane(fan->out) + fan->output[p]] += visit->x[c * plane(fan->in) + fan->place];
}

void sum_pool(const struct task *task, int64_t t)
{
    struct visit visit = {.x = input_at(task, 0, t), .y = output_at(task, t)};
    visit_places(task, sum_place, &visit);
}

static void max_place(const struct fan *fan, const struct visit *visit)
{
    for (int64_t c = 0; c < fan->in->shape[0]; c++)
        for (int64_t p = 0; p < fan->count; p++) {
            int64_t i = c * plane(fan->in) + fan->place, o = c * plane(fan->out) + fan->output[p];
            if (visit->x[i] > visit->y[o])
                visit->y[o] = visit->x[i];
        }
}

void max_pool(const struct task *task)
{
    const struct layer *in = source(task, 0), *out = task->layer;
    int64_t *sums = allocate(in->size), *before = allocate(out->size);
    for (int64_t t = 0; t < task->contract->timesteps; t++) {
        const int64_t *x = input_at(task, 0, t);
        int64_t *y = output_at(task, t);
        for (int64_t i = 0; i < in->size; i++)
            sums[i] += x[i];
        for (int64_t o = 0; o < out->size; o++)
            y[o] = BELOW_ALL;
        struct visit visit = {.x = sums, .y = y};
        visit_places(task, max_place, &visit);
        for (int64_t o = 0; o < out->size; o++) {
            int64_t largest = y[o];
            y[o] = largest - before[o];
            before[o] = largest;
        }
    }
    free(sums);
    free(before);
}
