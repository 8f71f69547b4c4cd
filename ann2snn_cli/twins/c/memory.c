/* Reads the files of a vector pack, and believes none of them: simulators read a short file as zeros. */

#include "memory.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A file that is being read. */
struct source {
    FILE *stream;
    const char *file;
    int64_t line; /* complete lines read so far */
};

int64_t *allocate(int64_t count)
{
    int64_t *values = NULL;
    if (count >= 0 && (uint64_t)count < SIZE_MAX / sizeof *values)
        values = calloc((size_t)count + 1, sizeof *values);
    if (values == NULL) {
        fprintf(stderr, "ERROR memory: there is none left for %lld words\n", (long long)count);
        exit(2);
    }
    return values;
}

static bool open_source(struct source *source, const char *folder, const char *file)
{
    size_t size = strlen(folder) + strlen(file) + 2;
    char *path = malloc(size);
    source->file = file;
    source->line = 0;
    source->stream = NULL;
    if (path != NULL) {
        snprintf(path, size, "%s/%s", folder, file);
        source->stream = fopen(path, "rb");
    }
    free(path);
    if (source->stream == NULL)
        fprintf(stderr, "ERROR %s: it is missing\n", file);
    return source->stream != NULL;
}

/* What is wrong with the line that is being read. Always false. */
static bool complain(const struct source *source, const char *what)
{
    fprintf(stderr, "ERROR %s: line %lld %s\n", source->file, (long long)source->line + 1, what);
    return false;
}

/* The next character as a digit's value; -1, and a complaint, where it is none. */
static int next_digit(struct source *source)
{
    int letter = getc(source->stream);
    if (letter >= '0' && letter <= '9')
        return letter - '0';
    if (letter >= 'a' && letter <= 'f')
        return letter - 'a' + 10;
    if (letter == EOF)
        complain(source, "is missing or cut off");
    else if (letter == '\n')
        complain(source, "has too few digits");
    else
        complain(source, "holds something that is no lower-case hexadecimal digit");
    return -1;
}

static bool end_line(struct source *source)
{
    int letter = getc(source->stream);
    if (letter == EOF)
        return complain(source, "has no end");
    if (letter != '\n')
        return complain(source, "has too many digits, or something else behind them");
    source->line++;
    return true;
}

static bool end_file(struct source *source)
{
    return getc(source->stream) == EOF || complain(source, "is one too many");
}

/* Closes the file; the values if all went well, else NULL. */
static int64_t *finish(struct source *source, int64_t *values, bool whole)
{
    fclose(source->stream);
    if (whole)
        return values;
    free(values);
    return NULL;
}

/* Words ------------------------------------------------------------------------------------------ */

static int64_t decode(uint64_t word, int bits, enum encoding encoding)
{
    int64_t value = (int64_t)word;
    if (encoding == BIPOLAR)
        return value * 2 - 1;
    if (encoding == TWOS_COMPLEMENT && (word >> (bits - 1) & 1) != 0)
        return value - ((int64_t)1 << bits);
    return value;
}

static bool read_word(struct source *source, const struct words *words, int64_t *value)
{
    uint64_t word = 0;
    for (int i = 0; i < (words->bits + 3) / 4; i++) {
        int digit = next_digit(source);
        if (digit < 0)
            return false;
        word = word << 4 | (uint64_t)digit;
    }
    if (word >> words->bits != 0)
        return complain(source, "holds bits above the width of its words");
    *value = decode(word, words->bits, words->encoding);
    return end_line(source);
}

int64_t *read_words(const char *folder, const struct words *words)
{
    struct source source;
    if (!open_source(&source, folder, words->file))
        return NULL;
    int64_t *values = allocate(words->count);
    bool whole = true;
    for (int64_t i = 0; whole && i < words->count; i++)
        whole = read_word(&source, words, &values[i]);
    return finish(&source, values, whole && end_file(&source));
}

/* Spikes ----------------------------------------------------------------------------------------- */

static bool read_step(struct source *source, int64_t neurons, int64_t *spikes)
{
    for (int64_t place = (neurons + 3) / 4 - 1; place >= 0; place--) { /* the left-most digit comes first */
        int digit = next_digit(source);
        if (digit < 0)
            return false;
        for (int64_t bit = 0; bit < 4; bit++) {
            int64_t spike = digit >> bit & 1, neuron = 4 * place + bit;
            if (neuron < neurons)
                spikes[neuron] = spike;
            else if (spike != 0)
                return complain(source, "holds spikes of neurons that do not exist");
        }
    }
    return end_line(source);
}

int64_t *read_spikes(const char *folder, const char *file, int64_t lines, int64_t neurons)
{
    struct source source;
    if (!open_source(&source, folder, file))
        return NULL;
    int64_t *spikes = allocate(lines * neurons);
    bool whole = true;
    for (int64_t t = 0; whole && t < lines; t++)
        whole = read_step(&source, neurons, spikes + t * neurons);
    return finish(&source, spikes, whole && end_file(&source));
}

/* Results: as much of JSON as they need ------------------------------------------------------------ */

static int next_letter(struct source *source)
{
    int letter = getc(source->stream);
    while (letter == ' ' || letter == '\t' || letter == '\n' || letter == '\r')
        letter = getc(source->stream);
    return letter;
}

/* Reads a string whose first quote is read already: is it this one? */
static bool same_string(struct source *source, const char *string)
{
    bool same = true, escaped = false;
    for (const char *next = string + 1;;) {
        int letter = getc(source->stream);
        if (letter == EOF)
            return false;
        same = same && letter == (unsigned char)*next;
        if (same)
            next++;
        if (letter == '"' && !escaped)
            return same;
        escaped = letter == '\\' && !escaped;
    }
}

/* Goes behind the colon of the next field of this name. */
static bool find_field(struct source *source, const char *key)
{
    for (int letter = getc(source->stream); letter != EOF; letter = getc(source->stream))
        if (letter == '"' && same_string(source, key) && next_letter(source) == ':')
            return true;
    return false;
}

/* Reads an integer; gives the letter behind it, or EOF where there is no integer. */
static int read_integer(struct source *source, int64_t *value)
{
    int letter = next_letter(source), digits = 0;
    int64_t sign = letter == '-' ? -1 : 1;
    if (letter == '-')
        letter = getc(source->stream);
    for (*value = 0; letter >= '0' && letter <= '9' && digits < 18; digits++) {
        *value = *value * 10 + sign * (letter - '0');
        letter = getc(source->stream);
    }
    if (digits == 0)
        return EOF;
    ungetc(letter, source->stream);
    return next_letter(source);
}

static bool read_integers(struct source *source, int64_t count, int64_t *values)
{
    if (next_letter(source) != '[')
        return false;
    for (int64_t i = 0; i < count; i++)
        if (read_integer(source, &values[i]) != (i < count - 1 ? ',' : ']'))
            return false;
    return true;
}

int64_t *read_result(const char *folder, const char *file, const char *key, int64_t count)
{
    struct source source;
    if (!open_source(&source, folder, file))
        return NULL;
    int64_t *values = allocate(count);
    bool whole = find_field(&source, "\"outputs\"") && find_field(&source, key) &&
                 read_integers(&source, count, values);
    if (!whole)
        fprintf(stderr, "ERROR %s: it does not hold %lld integers in \"outputs\" under %s\n", file,
                (long long)count, key);
    return finish(&source, values, whole);
}
