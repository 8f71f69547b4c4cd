/* The files of a vector pack: memory files of hexadecimal words, spikes, and the results. */

#ifndef MEMORY_H
#define MEMORY_H

#include <stdint.h>

enum encoding { TWOS_COMPLEMENT, UNSIGNED, BIPOLAR };

/* A memory file: `count` words of `bits` bits (at most 62), one a line. */
struct words {
    const char *file;
    int64_t count;
    int bits;
    enum encoding encoding;
};

/* Zeros, to be freed by the caller. Ends the program where there is no memory. */
int64_t *allocate(int64_t count);

/* The readers give values to be freed by the caller. A file that is missing, has fewer or more lines, lines
 * of another width, or anything but lower-case hexadecimal digits gives NULL and a line on stderr that names
 * it. */
int64_t *read_words(const char *folder, const struct words *words);

/* [lines][neurons] of 0 and 1: one line a step, bit i (the right-most is 0) is neuron i. */
int64_t *read_spikes(const char *folder, const char *file, int64_t lines, int64_t neurons);

/* The list of `count` integers under `key` (written as in JSON, with its quotes) in "outputs". */
int64_t *read_result(const char *folder, const char *file, const char *key, int64_t count);

#endif
