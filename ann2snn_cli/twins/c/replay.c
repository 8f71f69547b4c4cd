/* Replays a vector pack in plain integers and compares every recorded spike, potential and result.
 *
 *     replay PACK [SAMPLE...]
 *
 * Prints the first mismatches, a line each, in the order sample, layer, step, and at the end
 *     RESULT checked=N mismatch=M
 * Exit status: 0 it agrees; 1 it does not; 2 a file is missing or damaged, or the command line is wrong: then
 * there is no RESULT. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "layers.h"

/* What is expected of a layer; NULL: it was not recorded. */
struct expected {
    const char *spikes, *potentials;
};

struct sample {
    const char *name, *result;
    const char *const *stimuli;      /* of every layer; NULL where it is no input */
    const struct expected *expected; /* of every layer */
};

struct output {
    int layer;
    const char *key; /* its name as result.json writes it */
};

#include "network.h"

#define SHOWN 20 /* mismatches that are printed */

/* A replay: what is kept from layer to layer and from sample to sample. */
struct replay {
    const char *folder;
    const struct sample *sample;
    int64_t *parameters[PARAMETERS]; /* of all layers, in their order */
    int64_t *trains[LAYERS];         /* as long as a layer reads them */
    int64_t checked, mismatches;
    bool damaged;
};

/* Passes on what a reader gave, and remembers if it gave nothing. */
static int64_t *whole(struct replay *replay, int64_t *values)
{
    replay->damaged = replay->damaged || values == NULL;
    return values;
}

/* Comparing ------------------------------------------------------------------------------------------ */

static void compare(struct replay *replay, int layer, int64_t step, const char *field, const int64_t *wanted,
                    const int64_t *got)
{
    replay->checked += NETWORK[layer].size;
    for (int64_t i = 0; i < NETWORK[layer].size; i++)
        if (wanted[i] != got[i] && replay->mismatches++ < SHOWN)
            printf("MISMATCH sample=%s layer=%s step=%lld neuron=%lld field=%s expected=%lld got=%lld\n",
                   replay->sample->name, NETWORK[layer].name, (long long)step, (long long)i, field,
                   (long long)wanted[i], (long long)got[i]);
}

static int64_t *read_potentials(const char *folder, const char *file, const struct layer *layer)
{
    struct words words = {file, RECORDED_STEPS * layer->size, layer->potential_bits, TWOS_COMPLEMENT};
    return read_words(folder, &words);
}

static void compare_layer(struct replay *replay, int layer, const int64_t *potentials)
{
    const struct expected *files = &replay->sample->expected[layer];
    int64_t *spikes = NULL, *after = NULL, size = NETWORK[layer].size;
    if (files->spikes != NULL)
        spikes = whole(replay, read_spikes(replay->folder, files->spikes, RECORDED_STEPS, size));
    if (files->potentials != NULL)
        after = whole(replay, read_potentials(replay->folder, files->potentials, &NETWORK[layer]));
    for (int64_t t = 0; t < RECORDED_STEPS; t++) {
        if (spikes != NULL)
            compare(replay, layer, t + 1, "spike", spikes + t * size, replay->trains[layer] + t * size);
        if (after != NULL)
            compare(replay, layer, t + 1, "potential", after + t * size, potentials + t * size);
    }
    free(spikes);
    free(after);
}

static void compare_output(struct replay *replay, const struct output *output)
{
    const char *file = replay->sample->result;
    int64_t size = NETWORK[output->layer].size;
    int64_t *wanted = whole(replay, read_result(replay->folder, file, output->key, size));
    int64_t *sums = allocate(size);
    for (int64_t i = 0; i < CONTRACT.timesteps * size; i++)
        sums[i % size] += replay->trains[output->layer][i];
    if (wanted != NULL)
        compare(replay, output->layer, 0, "result", wanted, sums);
    free(wanted);
    free(sums);
}

/* Replaying ------------------------------------------------------------------------------------------ */

static void replay_layer(struct replay *replay, int layer, int64_t *const *parameters)
{
    enum kind kind = NETWORK[layer].kind;
    int64_t values = CONTRACT.timesteps * NETWORK[layer].size;
    int64_t *potentials = allocate(kind == INTEGRATE_FIRE || kind == INTEGRATE ? values : 0);
    replay->trains[layer] = allocate(values);
    struct task task = {
        .contract = &CONTRACT,
        .layer = &NETWORK[layer],
        .network = NETWORK,
        .trains = replay->trains,
        .parameters = parameters,
        .train = replay->trains[layer],
        .potentials = potentials,
    };
    compute(&task);
    compare_layer(replay, layer, potentials);
    free(potentials);
}

/* Frees the trains that no layer behind this one reads. */
static void forget_trains(struct replay *replay, int layer)
{
    for (int i = 0; i < LAYERS; i++)
        if (NETWORK[i].last_reader <= layer) {
            free(replay->trains[i]);
            replay->trains[i] = NULL;
        }
}

static void replay_sample(struct replay *replay)
{
    int64_t **parameters = replay->parameters;
    for (int layer = 0; layer < LAYERS; layer++) {
        replay_layer(replay, layer, parameters);
        forget_trains(replay, layer);
        parameters += NETWORK[layer].parameter_count;
    }
    for (int i = 0; i < OUTPUTS; i++)
        compare_output(replay, &OUTPUT[i]);
    forget_trains(replay, LAYERS);
}

/* Reading -------------------------------------------------------------------------------------------- */

/* The indices of a gather must lie in its input: -1 is a zero. */
static void check_indices(struct replay *replay, const struct layer *layer, const int64_t *indices)
{
    for (int64_t i = 0; indices != NULL && i < layer->size; i++)
        if (indices[i] < -1 || indices[i] >= NETWORK[layer->inputs[0]].size) {
            fprintf(stderr, "ERROR %s: line %lld is an index beyond the input\n",
                    layer->parameters[INDEX].words.file, (long long)i + 1);
            replay->damaged = true;
            return;
        }
}

/* Reads all parameters but the stimuli. */
static void read_parameters(struct replay *replay)
{
    int64_t **values = replay->parameters;
    for (const struct layer *layer = NETWORK; layer < NETWORK + LAYERS; layer++)
        for (int i = 0; i < layer->parameter_count; i++, values++) {
            const struct words *words = &layer->parameters[i].words;
            if (words->file != NULL)
                *values = whole(replay, read_words(replay->folder, words));
            if (layer->kind == GATHER)
                check_indices(replay, layer, *values);
        }
}

/* Reads the sample's stimuli: each is the parameter of its input layer. */
static bool read_stimuli(struct replay *replay)
{
    int64_t **values = replay->parameters;
    bool complete = true;
    for (int i = 0; i < LAYERS; values += NETWORK[i++].parameter_count) {
        if (NETWORK[i].kind != INPUT)
            continue;
        struct words words = NETWORK[i].parameters[STIMULUS].words;
        words.file = replay->sample->stimuli[i];
        free(*values);
        *values = whole(replay, read_words(replay->folder, &words));
        complete = complete && *values != NULL;
    }
    return complete;
}

static const struct sample *find_sample(const char *name)
{
    for (int i = 0; i < SAMPLES; i++)
        if (strcmp(SAMPLE[i].name, name) == 0)
            return &SAMPLE[i];
    fprintf(stderr, "ERROR manifest.json: it has no sample %s\n", name);
    return NULL;
}

static void run(struct replay *replay, const struct sample *sample)
{
    replay->sample = sample;
    if (read_stimuli(replay))
        replay_sample(replay);
}

/* The samples that are named, or all of them. */
static void run_all(struct replay *replay, int count, char **names)
{
    for (int i = 0; i < count; i++) {
        const struct sample *sample = find_sample(names[i]);
        if (sample == NULL)
            replay->damaged = true;
        else
            run(replay, sample);
    }
    for (int i = 0; count == 0 && i < SAMPLES; i++)
        run(replay, &SAMPLE[i]);
}

int main(int count, char **arguments)
{
    static struct replay replay;
    if (count < 2) {
        fprintf(stderr, "usage: replay PACK [SAMPLE...]\n");
        return 2;
    }
    replay.folder = arguments[1];
    read_parameters(&replay);
    if (!replay.damaged)
        run_all(&replay, count - 2, arguments + 2);
    for (int i = 0; i < PARAMETERS; i++)
        free(replay.parameters[i]);
    if (replay.damaged)
        return 2;
    printf("RESULT checked=%lld mismatch=%lld\n", (long long)replay.checked, (long long)replay.mismatches);
    return replay.mismatches == 0 ? 0 : 1;
}
