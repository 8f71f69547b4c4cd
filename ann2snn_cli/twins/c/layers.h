/* What a network is made of, and what a layer computes. */

#ifndef LAYERS_H
#define LAYERS_H

#include <stdbool.h>
#include <stdint.h>

#include "memory.h"

#define AXES 3 /* spatial axes z, y, x; of fewer the first are missing: size, kernel, stride, dilation 1 */
#define MOST_AXES 8

enum kind {
    INPUT,
    CONV,
    CONV_TRANSPOSE,
    LINEAR,
    SCALE,
    ADD,
    SUM_POOL,
    MAX_POOL,
    CONCAT,
    RESHAPE,
    PERMUTE,
    GATHER,
    INTEGRATE_FIRE,
    INTEGRATE,
    KINDS
};

/* Where among a layer's parameters one stands. An add has one multiplier an input, from WEIGHT on. */
enum role { STIMULUS = 0, WEIGHT = 0, INDEX = 0, THRESHOLD = 0, BIAS = 1, INITIAL = 2 };

struct parameter {
    struct words words; /* no file: the parameter is 0 */
    int64_t share;      /* of those one a neuron: so many neurons in a row have one word in common */
};

struct layer {
    const char *name;
    enum kind kind;
    const int *inputs; /* layers, all of them earlier */
    int input_count;
    const struct parameter *parameters;
    int parameter_count;
    int rank;
    int64_t shape[MOST_AXES]; /* [channels, spatial axes...] */
    int64_t size;             /* how many values it passes on in a step */
    int64_t kernel[AXES], stride[AXES], padding[AXES], dilation[AXES];
    int64_t groups;
    int order[MOST_AXES];
    int fraction_bits;
    int potential_bits; /* of a word in a file of expected potentials */
    int last_reader;    /* the last layer that reads this one */
};

struct contract {
    int64_t timesteps;
    int64_t delay;      /* of timesteps, how many a population integrates before it may fire */
    bool reset_to_zero; /* false: by subtraction */
    bool strict;        /* fires at V > threshold; false: at V >= threshold */
};

/* One layer on one sample. A train is [timesteps][size], in the layer's own steps: those of a population begin
 * `delay` steps after those of its input. */
struct task {
    const struct contract *contract;
    const struct layer *layer;
    const struct layer *network; /* where `inputs` point to */
    int64_t *const *trains;      /* of all layers */
    int64_t *const *parameters;  /* the layer's own; NULL: 0 everywhere */
    int64_t *train;              /* zeros; what the layer passes on goes here */
    int64_t *potentials;         /* of neurons: the potentials after the reset go here */
};

/* The layer that is input number `input`, and its train at step t (here they count from 0). */
const struct layer *source(const struct task *task, int input);
const int64_t *input_at(const struct task *task, int input, int64_t t);

/* Where the layer's own train goes at step t. */
int64_t *output_at(const struct task *task, int64_t t);

void compute(const struct task *task);

#endif
