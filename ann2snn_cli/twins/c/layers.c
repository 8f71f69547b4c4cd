/* The arithmetic: one function a kind of layer, its equation above it; x is what comes in, y what is passed on.
 * Those that slide a window over their input are in windows.c. */

#include "layers.h"

#include <string.h>

#include "windows.h"

const struct layer *source(const struct task *task, int input)
{
    return &task->network[task->layer->inputs[input]];
}

const int64_t *input_at(const struct task *task, int input, int64_t t)
{
    return task->trains[task->layer->inputs[input]] + t * source(task, input)->size;
}

int64_t *output_at(const struct task *task, int64_t t)
{
    return task->train + t * task->layer->size;
}

/* A parameter of neuron i. */
static int64_t parameter(const struct task *task, int role, int64_t i)
{
    const int64_t *words = task->parameters[role];
    return words == NULL ? 0 : words[i / task->layer->parameters[role].share];
}

/* Sums ---------------------------------------------------------------------------------------------- */

/* y[o] = sum of w[o][i] * x[i], along the last axis. */
static void linear(const struct task *task, int64_t t)
{
    const struct layer *in = source(task, 0), *out = task->layer;
    const int64_t *x = input_at(task, 0, t), *weights = task->parameters[WEIGHT];
    int64_t *y = output_at(task, t), ins = in->shape[in->rank - 1], outs = out->shape[out->rank - 1];
    for (int64_t i = 0; i < in->size; i++)
        for (int64_t o = 0; x[i] != 0 && o < outs; o++)
            y[i / ins * outs + o] += weights[o * ins + i % ins] * x[i];
}

/* y[i] = w * x[i] */
static void scale(const struct task *task, int64_t t)
{
    for (int64_t i = 0; i < task->layer->size; i++)
        output_at(task, t)[i] = parameter(task, WEIGHT, i) * input_at(task, 0, t)[i];
}

/* y[i] = sum over the inputs of m * x[i] */
static void add(const struct task *task, int64_t t)
{
    for (int input = 0; input < task->layer->input_count; input++)
        for (int64_t i = 0; i < task->layer->size; i++)
            output_at(task, t)[i] += parameter(task, WEIGHT + input, i) * input_at(task, input, t)[i];
}

/* Moves --------------------------------------------------------------------------------------------- */

/* y = the inputs one after the other along the first axis: in memory too. A reshape is that of one input. */
static void concat(const struct task *task, int64_t t)
{
    int64_t *y = output_at(task, t);
    for (int input = 0; input < task->layer->input_count; input++) {
        memcpy(y, input_at(task, input, t), (size_t)source(task, input)->size * sizeof *y);
        y += source(task, input)->size;
    }
}

/* y[a0][a1]... = x[b0][b1]... with b[order[i]] = a[i] */
static void permute(const struct task *task, int64_t t)
{
    const struct layer *in = source(task, 0), *out = task->layer;
    int64_t stride[MOST_AXES]; /* of the input's axes in memory */
    for (int axis = in->rank - 1; axis >= 0; axis--)
        stride[axis] = axis == in->rank - 1 ? 1 : stride[axis + 1] * in->shape[axis + 1];
    for (int64_t o = 0; o < out->size; o++) {
        int64_t from = 0, rest = o;
        for (int axis = out->rank - 1; axis >= 0; axis--) {
            from += rest % out->shape[axis] * stride[out->order[axis]];
            rest /= out->shape[axis];
        }
        output_at(task, t)[o] = input_at(task, 0, t)[from];
    }
}

/* y[i] = x[index[i]], 0 where the index is -1 */
static void gather(const struct task *task, int64_t t)
{
    for (int64_t i = 0; i < task->layer->size; i++) {
        int64_t from = task->parameters[INDEX][i];
        output_at(task, t)[i] = from < 0 ? 0 : input_at(task, 0, t)[from];
    }
}

/* Neurons ------------------------------------------------------------------------------------------- */

/* y = the stimulus, at every step the same */
static void input(const struct task *task, int64_t t)
{
    memcpy(output_at(task, t), task->parameters[STIMULUS], (size_t)task->layer->size * sizeof(int64_t));
}

/* T timesteps, D delay; V starts as V0. For t = 1 ... T + D (here t counts from 0):
 *     t <= T:  V = V + 2^f * x(t) + B
 *     t > D:   s = V >= theta;   V = V - s * theta,   or V = 0 where it fired:   firing step t - D */
static void integrate_fire(const struct task *task)
{
    const struct contract *contract = task->contract;
    int64_t unit = (int64_t)1 << task->layer->fraction_bits, size = task->layer->size;
    for (int64_t i = 0; i < size; i++) {
        int64_t potential = parameter(task, INITIAL, i), bias = parameter(task, BIAS, i);
        int64_t threshold = parameter(task, THRESHOLD, i);
        for (int64_t t = 0; t < contract->timesteps + contract->delay; t++) {
            if (t < contract->timesteps)
                potential += unit * input_at(task, 0, t)[i] + bias;
            if (t < contract->delay)
                continue;
            bool spike = contract->strict ? potential > threshold : potential >= threshold;
            if (spike)
                potential = contract->reset_to_zero ? 0 : potential - threshold;
            output_at(task, t - contract->delay)[i] = spike;
            task->potentials[(t - contract->delay) * size + i] = potential;
        }
    }
}

/* y(t) = x(t) + B, at the first step also + V0;   V(t) = y(1) + ... + y(t) */
static void integrate(const struct task *task)
{
    int64_t size = task->layer->size;
    for (int64_t i = 0; i < size; i++) {
        int64_t potential = 0;
        for (int64_t t = 0; t < task->contract->timesteps; t++) {
            int64_t passed = input_at(task, 0, t)[i] + parameter(task, BIAS, i);
            if (t == 0)
                passed += parameter(task, INITIAL, i);
            potential += passed;
            output_at(task, t)[i] = passed;
            task->potentials[t * size + i] = potential;
        }
    }
}

/* ---------------------------------------------------------------------------------------------------- */

/* Layers without a memory are computed step by step, the others over the whole train. */
static void (*const STEP[KINDS])(const struct task *, int64_t) = {
    [INPUT] = input,       [CONV] = conv,         [CONV_TRANSPOSE] = conv, [LINEAR] = linear,
    [SCALE] = scale,       [ADD] = add,           [SUM_POOL] = sum_pool,   [CONCAT] = concat,
    [RESHAPE] = concat,    [PERMUTE] = permute,   [GATHER] = gather,
};

static void (*const TRAIN[KINDS])(const struct task *) = {
    [MAX_POOL] = max_pool,
    [INTEGRATE_FIRE] = integrate_fire,
    [INTEGRATE] = integrate,
};

void compute(const struct task *task)
{
    enum kind kind = task->layer->kind;
    if (TRAIN[kind] != NULL)
        TRAIN[kind](task);
    else
        for (int64_t t = 0; t < task->contract->timesteps; t++)
            STEP[kind](task, t);
}
