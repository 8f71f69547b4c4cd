/* Populations of integrate-and-fire neurons with all that charges them, and pools of their spikes.

   A train lies as uint8 [image][pixel][step][channel], steps filled up to a multiple of 4 and channels to a
   multiple of LANES, with zeros. So what a neuron reads at all steps lies side by side, and a convolution of any
   stride, padding, dilation or number of axes is a table that says for every pixel which pixels it reads.

   What charges a population is a sum of terms. For one pixel and LANES neurons at a time all terms are added up
   for every step; then the neurons run through the steps with their potential in registers.

   Integers wrap around (compile with -fwrapv): whoever calls has proved that no potential leaves 32 bits.
   Dot products are those of the processor: AVX-512 VNNI, AVX2, NEON, or plain C with -DPLAIN. */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define LANES 16 /* neurons at a time */
#define WORD 4   /* channels that are multiplied at once */
#define STEPS 4  /* steps at a time, or twice as many where there are registers for them */

enum { DENSE, BY_CHANNEL, CURRENT };

typedef struct {
    int32_t kind;
    int32_t taps;           /* pixels that a pixel reads */
    int32_t words;          /* DENSE: words of channels that it reads of each of them */
    int32_t run;            /* DENSE: words whose products add up to less than 16 bits */
    int64_t image, pixel, step; /* how far apart in `values` */
    const void *values;     /* uint8 spikes or small integers; CURRENT: int32 */
    const int32_t *sources; /* [pixel][tap]: the pixel that is read, or -1; NULL: the pixel itself */
    const int32_t *first;   /* DENSE: [block] the first channel that the block reads */
    const void *weights;    /* DENSE: int8 [block][tap][word][lane][4]; BY_CHANNEL: int32 [tap][channel] */
    const int32_t *factors; /* [channel] what the sum is multiplied by; NULL: 1 */
} Term;

typedef struct {
    int64_t images, pixels, channels; /* channels filled up */
    int64_t steps, filled, delay;     /* filled: steps filled up */
    int64_t shift, resets_to_zero;
    int64_t parameters_pixel;         /* how far apart the parameters of two pixels are: 0 if they are the same */
    const int32_t *threshold, *bias, *initial; /* [pixel][channel] */
    uint8_t *spikes;
    int32_t *counts;     /* [image][pixel][channel], or NULL */
    int32_t *potentials; /* as spikes, or NULL */
    int64_t terms;
    const Term *term;
} Population;

/* Dot products: `sums[STEPS][LANES]` += what `words` words of STEPS rows make of the weights ------------------ */

#define INLINE static inline __attribute__((always_inline))
INLINE int32_t word_at(const uint8_t *x)
{
    int32_t word;
    memcpy(&word, x, sizeof word);
    return word;
}

#if defined(__AVX512VNNI__) && !defined(PLAIN)
#include <immintrin.h>
#define MOST_STEPS (2 * STEPS)
typedef struct { __m512i row[MOST_STEPS]; } Sums;
INLINE void clear(Sums *s, const int steps)
{
    for (int t = 0; t < steps; t++) s->row[t] = _mm512_setzero_si512();
}
INLINE void multiply(Sums *s, const int steps, const uint8_t *x, int64_t step, const int8_t *w)
{
    const __m512i weights = _mm512_loadu_si512(w);
    for (int t = 0; t < steps; t++)
        s->row[t] = _mm512_dpbusd_epi32(s->row[t], _mm512_set1_epi32(word_at(x + t * step)), weights);
}
INLINE void hand_over(Sums *s, const int steps, int32_t *charge, const int32_t *factors)
{
    for (int t = 0; t < steps; t++) {
        int32_t *at = charge + t * LANES;
        __m512i sum = s->row[t];
        if (factors) sum = _mm512_mullo_epi32(sum, _mm512_loadu_si512(factors));
        _mm512_storeu_si512(at, _mm512_add_epi32(_mm512_loadu_si512(at), sum));
    }
}

#elif defined(__AVX2__) && !defined(PLAIN)
#include <immintrin.h>
#define MOST_STEPS STEPS
typedef struct { __m256i low[STEPS], high[STEPS]; } Sums; /* of pairs of channels, in 16 bits */
INLINE void clear(Sums *s, const int steps)
{
    for (int t = 0; t < steps; t++) s->low[t] = s->high[t] = _mm256_setzero_si256();
}
INLINE void multiply(Sums *s, const int steps, const uint8_t *x, int64_t step, const int8_t *w)
{
    __m256i low = _mm256_loadu_si256((const __m256i *)w);
    __m256i high = _mm256_loadu_si256((const __m256i *)(w + 32));
    __asm__("" : "+x"(low), "+x"(high)); /* read once: otherwise compilers read them for every step */
    for (int t = 0; t < steps; t++) {
        const __m256i read = _mm256_set1_epi32(word_at(x + t * step));
        s->low[t] = _mm256_add_epi16(s->low[t], _mm256_maddubs_epi16(read, low));
        s->high[t] = _mm256_add_epi16(s->high[t], _mm256_maddubs_epi16(read, high));
    }
}
INLINE void hand_over_half(__m256i sums, int32_t *at, const int32_t *factors)
{
    sums = _mm256_madd_epi16(sums, _mm256_set1_epi16(1));
    if (factors) sums = _mm256_mullo_epi32(sums, _mm256_loadu_si256((const __m256i *)factors));
    sums = _mm256_add_epi32(sums, _mm256_loadu_si256((const __m256i *)at));
    _mm256_storeu_si256((__m256i *)at, sums);
}
INLINE void hand_over(Sums *s, const int steps, int32_t *charge, const int32_t *factors)
{
    for (int t = 0; t < steps; t++) {
        hand_over_half(s->low[t], charge + t * LANES, factors);
        hand_over_half(s->high[t], charge + t * LANES + 8, factors ? factors + 8 : 0);
    }
}

#elif defined(__ARM_FEATURE_DOTPROD) && !defined(PLAIN)
#include <arm_neon.h>
#define MOST_STEPS STEPS
typedef struct { int32x4_t quarter[STEPS][4]; } Sums;
INLINE void clear(Sums *s, const int steps)
{
    for (int t = 0; t < steps; t++)
        for (int q = 0; q < 4; q++) s->quarter[t][q] = vdupq_n_s32(0);
}
INLINE void multiply(Sums *s, const int steps, const uint8_t *x, int64_t step, const int8_t *w)
{
    const int8x16_t weights[4] = {vld1q_s8(w), vld1q_s8(w + 16), vld1q_s8(w + 32), vld1q_s8(w + 48)};
    for (int t = 0; t < steps; t++) {
        const int8x16_t read = vreinterpretq_s8_s32(vdupq_n_s32(word_at(x + t * step)));
        for (int q = 0; q < 4; q++) s->quarter[t][q] = vdotq_s32(s->quarter[t][q], read, weights[q]);
    }
}
INLINE void hand_over(Sums *s, const int steps, int32_t *charge, const int32_t *factors)
{
    for (int t = 0; t < steps; t++)
        for (int q = 0; q < 4; q++) {
            int32_t *at = charge + t * LANES + 4 * q;
            int32x4_t sum = s->quarter[t][q];
            if (factors) sum = vmulq_s32(sum, vld1q_s32(factors + 4 * q));
            vst1q_s32(at, vaddq_s32(vld1q_s32(at), sum));
        }
}

#else
#define MOST_STEPS STEPS
typedef struct { int32_t lane[STEPS][LANES]; } Sums;
INLINE void clear(Sums *s, const int steps) 
{
    memset(s->lane, 0, (size_t)steps * sizeof *s->lane);
}
INLINE void multiply(Sums *s, const int steps, const uint8_t *x, int64_t step, const int8_t *w)
{
    for (int t = 0; t < steps; t++)
        for (int lane = 0; lane < LANES; lane++)
            for (int i = 0; i < WORD; i++) s->lane[t][lane] += x[t * step + i] * w[lane * WORD + i];
}
INLINE void hand_over(Sums *s, const int steps, int32_t *charge, const int32_t *factors)
{
    for (int t = 0; t < steps; t++)
        for (int lane = 0; lane < LANES; lane++)
            charge[t * LANES + lane] += s->lane[t][lane] * (factors ? factors[lane] : 1);
}
#endif

/* Terms: `charge[filled][LANES]` += what one of them adds ------------------------------------------------------ */

INLINE void add_steps(const Term *term, const int steps, const uint8_t *image, const int32_t *sources,
                      const int8_t *weights, const int32_t *factors, int32_t *charge)
{
    const int64_t taps = term->taps, words = term->words, run = term->run, step = term->step, pixel = term->pixel;
    int64_t tap = 0, word = 0;
    Sums sums;
    while (tap < taps) {
        clear(&sums, steps);
        for (int64_t left = run; tap < taps && left;) {
            const int64_t count = words - word < left ? words - word : left;
            if (sources[tap] >= 0) {
                const uint8_t *x = image + sources[tap] * pixel + word * WORD;
                const int8_t *w = weights + (tap * words + word) * LANES * WORD;
                for (const int8_t *end = w + count * LANES * WORD; w < end; w += LANES * WORD, x += WORD)
                    multiply(&sums, steps, x, step, w);
                left -= count;
            }
            word += count;
            if (word == words) word = 0, tap++;
        }
        __asm__("" ::: "memory"); /* compilers shall not hold charges in registers meanwhile */
        hand_over(&sums, steps, charge, factors);
    }
}

/* Not inlined: with less around it compilers keep the sums in registers. */
static __attribute__((noinline)) void add_dense(const Term *term, const uint8_t *image, int64_t pixel,
                                                int64_t block, int64_t filled, int32_t *charge)
{
    const int32_t *sources = term->sources + pixel * term->taps;
    const int8_t *weights = (const int8_t *)term->weights + block * term->taps * term->words * LANES * WORD;
    const int32_t *factors = term->factors ? term->factors + block * LANES : 0;
    image += term->first[block];
    int64_t t = 0;
    for (; t + MOST_STEPS <= filled; t += MOST_STEPS)
        add_steps(term, MOST_STEPS, image + t * term->step, sources, weights, factors, charge + t * LANES);
    for (; t < filled; t += STEPS)
        add_steps(term, STEPS, image + t * term->step, sources, weights, factors, charge + t * LANES);
}

static void add_by_channel(const Term *term, const uint8_t *image, int64_t pixel, int64_t block, int64_t channels,
                           int64_t steps, int32_t *charge)
{
    int32_t ones[LANES];
    for (int lane = 0; lane < LANES; lane++) ones[lane] = 1;
    const int32_t *factors = term->factors ? term->factors + block * LANES : ones;
    for (int64_t tap = 0; tap < term->taps; tap++) {
        const int64_t source = term->sources ? term->sources[pixel * term->taps + tap] : pixel;
        if (source < 0) continue;
        const uint8_t *x = image + source * term->pixel + block * LANES;
        const int32_t *weights = (const int32_t *)term->weights + tap * channels + block * LANES;
        int32_t products[LANES];
        for (int lane = 0; lane < LANES; lane++) products[lane] = weights[lane] * factors[lane];
        for (int64_t t = 0; t < steps; t++)
            for (int lane = 0; lane < LANES; lane++)
                charge[t * LANES + lane] += products[lane] * x[t * term->step + lane];
    }
}

static void add_current(const Term *term, const int32_t *image, int64_t pixel, int64_t block, int64_t steps,
                        int32_t *charge)
{
    int32_t ones[LANES];
    for (int lane = 0; lane < LANES; lane++) ones[lane] = 1;
    const int32_t *factors = term->factors ? term->factors + block * LANES : ones;
    const int32_t *x = image + pixel * term->pixel + block * LANES;
    for (int64_t t = 0; t < steps; t++)
        for (int lane = 0; lane < LANES; lane++)
            charge[t * LANES + lane] += factors[lane] * x[t * term->step + lane];
}

/* Neurons ------------------------------------------------------------------------------------------------------- */

#if defined(__AVX512VNNI__) && defined(__AVX512BW__) && defined(__AVX512VL__) && !defined(PLAIN)
typedef __m512i Lanes;
typedef __mmask16 Fired;

INLINE Lanes read_lanes(const int32_t *at) { return _mm512_loadu_si512(at); }
INLINE void write_lanes(int32_t *at, Lanes x) { _mm512_storeu_si512(at, x); }
INLINE Lanes plus(Lanes a, Lanes b) { return _mm512_add_epi32(a, b); }
INLINE Lanes shifted(Lanes x, int shift) { return _mm512_sll_epi32(x, _mm_cvtsi32_si128(shift)); }
INLINE Fired reaches(Lanes potential, Lanes threshold) { return _mm512_cmpge_epi32_mask(potential, threshold); }
INLINE Lanes less(Lanes x, Fired where, Lanes other) { return _mm512_mask_sub_epi32(x, where, x, other); }
INLINE Lanes zeroed(Lanes x, Fired where) { return less(x, where, x); }
INLINE Lanes counted(Lanes count, Fired fired) { return less(count, fired, _mm512_set1_epi32(-1)); }
INLINE void write_spikes(uint8_t *spikes, Fired fired)
{
    _mm_storeu_si128((__m128i *)spikes, _mm_maskz_set1_epi8(fired, 1));
}
#else
typedef int32_t Half __attribute__((vector_size(LANES / 2 * 4)));
typedef uint8_t HalfBytes __attribute__((vector_size(LANES / 2)));
typedef struct { Half low, high; } Lanes;
typedef Lanes Fired; /* all bits set where a neuron fires, else none */

INLINE Half read_half(const int32_t *at) { Half h; memcpy(&h, at, sizeof h); return h; }
INLINE void write_half(int32_t *at, Half h) { memcpy(at, &h, sizeof h); }
INLINE Lanes read_lanes(const int32_t *at) /* by halves: as a whole they would stay in memory */
{
    return (Lanes){read_half(at), read_half(at + LANES / 2)};
}
INLINE void write_lanes(int32_t *at, Lanes x) { write_half(at, x.low); write_half(at + LANES / 2, x.high); }
INLINE Lanes plus(Lanes a, Lanes b) { return (Lanes){a.low + b.low, a.high + b.high}; }
INLINE Lanes shifted(Lanes x, int shift) { return (Lanes){x.low << shift, x.high << shift}; }
INLINE Fired reaches(Lanes potential, Lanes threshold)
{
    return (Fired){potential.low >= threshold.low, potential.high >= threshold.high};
}
INLINE Lanes less(Lanes x, Fired where, Lanes other)
{
    return (Lanes){x.low - (other.low & where.low), x.high - (other.high & where.high)};
}
INLINE Lanes zeroed(Lanes x, Fired where) { return (Lanes){x.low & ~where.low, x.high & ~where.high}; }
INLINE Lanes counted(Lanes count, Fired fired) { return (Lanes){count.low - fired.low, count.high - fired.high}; }
INLINE void write_spikes(uint8_t *spikes, Fired fired)
{
#ifdef __AVX2__
    const __m256i words = _mm256_packs_epi32((__m256i)fired.low, (__m256i)fired.high); /* 0-3, 8-11, 4-7, 12-15 */
    const __m256i in_order = _mm256_permute4x64_epi64(words, 0xd8);
    const __m128i bytes = _mm_packs_epi16(_mm256_castsi256_si128(in_order), _mm256_extracti128_si256(in_order, 1));
    _mm_storeu_si128((__m128i *)spikes, _mm_and_si128(bytes, _mm_set1_epi8(1)));
#else
    const HalfBytes first = __builtin_convertvector(fired.low & 1, HalfBytes);
    const HalfBytes second = __builtin_convertvector(fired.high & 1, HalfBytes);
    memcpy(spikes, &first, sizeof first);
    memcpy(spikes + sizeof first, &second, sizeof second);
#endif
}
#endif

static __attribute__((noinline)) void run_neurons(const Population *p, int64_t block, int64_t at, int64_t parameters,
                                                  const int32_t *charge, int64_t charge_step)
{
    const int64_t channels = p->channels, steps = p->steps, delay = p->delay, first = block * LANES;
    const int shift = (int)p->shift, resets_to_zero = (int)p->resets_to_zero;
    const Lanes threshold = read_lanes(p->threshold + parameters), bias = read_lanes(p->bias + parameters);
    const int32_t zeros[LANES] = {0};
    Lanes potential = read_lanes(p->initial + parameters), count = read_lanes(zeros);
    uint8_t *spikes = p->spikes + at * p->filled * channels + first;
    int32_t *potentials = p->potentials ? p->potentials + at * p->filled * channels + first : 0;
    for (int64_t t = 0; t < steps + delay; t++) {
        if (t < steps) potential = plus(potential, plus(shifted(read_lanes(charge + t * charge_step), shift), bias));
        if (t < delay) continue;
        const Fired fired = reaches(potential, threshold);
        potential = resets_to_zero ? zeroed(potential, fired) : less(potential, fired, threshold);
        count = counted(count, fired);
        write_spikes(spikes + (t - delay) * channels, fired);
        if (potentials) write_lanes(potentials + (t - delay) * channels, potential);
    }
    for (int64_t t = steps; t < p->filled; t++) memset(spikes + t * channels, 0, LANES);
    if (p->counts) write_lanes(p->counts + at * channels + first, count);
}

/* Pixels of images, LANES channels of each: the items from `first` to before `last` of blocks x images x pixels.
   Gives 0, or 1 where there is no memory. */
int fire(const Population *p, int64_t first, int64_t last)
{
    int is_constant = 1; /* then one row of charges is that of every step */
    for (int64_t i = 0; i < p->terms; i++) is_constant &= p->term[i].kind == CURRENT && p->term[i].step == 0;
    const int64_t steps = is_constant ? 1 : p->steps, rows = is_constant ? 1 : p->filled;
    int32_t *charge = malloc((size_t)(rows * LANES) * sizeof *charge);
    if (!charge) return 1;
    for (int64_t item = first; item < last; item++) {
        const int64_t block = item / (p->images * p->pixels);
        const int64_t image = item / p->pixels % p->images, pixel = item % p->pixels;
        memset(charge, 0, (size_t)(rows * LANES) * sizeof *charge);
        for (int64_t i = 0; i < p->terms; i++) {
            const Term *term = p->term + i;
            const uint8_t *bytes = (const uint8_t *)term->values + image * term->image;
            if (term->kind == DENSE)
                add_dense(term, bytes, pixel, block, rows, charge);
            else if (term->kind == BY_CHANNEL)
                add_by_channel(term, bytes, pixel, block, p->channels, steps, charge);
            else
                add_current(term, (const int32_t *)term->values + image * term->image, pixel, block, steps, charge);
        }
        const int64_t at = image * p->pixels + pixel;
        run_neurons(p, block, at, pixel * p->parameters_pixel + block * LANES, charge, is_constant ? 0 : LANES);
    }
    free(charge);
    return 0;
}

/* Pools: [image][pixel][step][channel] to the same with other pixels --------------------------------------------- */

typedef struct {
    int64_t images, pixels, channels, filled, image; /* image: how far apart in `values` */
    int64_t reach;          /* no sum over all steps is larger */
    int32_t taps, largest;  /* largest: pass on by how much the largest sum so far has grown; else the sum */
    const uint8_t *values;
    const int32_t *sources; /* [pixel][tap], or -1 */
    uint8_t *pooled;
} Pool;

static void sum_of_window(const Pool *p, const uint8_t *image, const int32_t *sources, uint8_t *pooled)
{
    const int64_t size = p->filled * p->channels;
    memset(pooled, 0, (size_t)size);
    for (int32_t tap = 0; tap < p->taps; tap++) {
        if (sources[tap] < 0) continue;
        const uint8_t *x = image + sources[tap] * size;
        for (int64_t i = 0; i < size; i++) pooled[i] = (uint8_t)(pooled[i] + x[i]);
    }
}

/* `so_far[taps][LANES]`: the sum of each pixel of the window, in bytes where no sum leaves them. */
#define LARGEST_OF_WINDOW(NAME, NUMBER)                                                                        \
    static void NAME(const Pool *p, const uint8_t *image, const int32_t *sources, uint8_t *pooled,             \
                     NUMBER *so_far)                                                                           \
    {                                                                                                          \
        const int64_t channels = p->channels, size = p->filled * channels;                                     \
        for (int64_t c = 0; c < channels; c += LANES) {                                                        \
            NUMBER before[LANES] = {0};                                                                        \
            memset(so_far, 0, (size_t)(p->taps * LANES) * sizeof *so_far);                                     \
            for (int64_t at = c; at < size; at += channels) {                                                  \
                NUMBER largest[LANES] = {0};                                                                   \
                for (int32_t tap = 0; tap < p->taps; tap++) {                                                  \
                    if (sources[tap] < 0) continue;                                                            \
                    const uint8_t *x = image + sources[tap] * size + at;                                       \
                    NUMBER *sum = so_far + tap * LANES;                                                        \
                    for (int lane = 0; lane < LANES; lane++) sum[lane] = (NUMBER)(sum[lane] + x[lane]);        \
                    for (int lane = 0; lane < LANES; lane++)                                                   \
                        largest[lane] = sum[lane] > largest[lane] ? sum[lane] : largest[lane];                 \
                }                                                                                              \
                for (int lane = 0; lane < LANES; lane++) {                                                     \
                    pooled[at + lane] = (uint8_t)(largest[lane] - before[lane]);                               \
                    before[lane] = largest[lane];                                                              \
                }                                                                                              \
            }                                                                                                  \
        }                                                                                                      \
    }
LARGEST_OF_WINDOW(largest_in_bytes, uint8_t)
LARGEST_OF_WINDOW(largest_in_words, int32_t)

/* Pixels of images: the items from `first` to before `last` of images x pixels. Gives 0, or 1 where there is no
   memory. */
int pool(const Pool *p, int64_t first, int64_t last)
{
    int32_t *so_far = malloc((size_t)(p->taps * LANES) * sizeof *so_far);
    if (!so_far) return 1;
    for (int64_t item = first; item < last; item++) {
        const int64_t image = item / p->pixels, pixel = item % p->pixels;
        const int32_t *sources = p->sources + pixel * p->taps;
        uint8_t *pooled = p->pooled + item * p->filled * p->channels;
        const uint8_t *values = p->values + image * p->image;
        if (!p->largest)
            sum_of_window(p, values, sources, pooled);
        else if (p->reach < 256)
            largest_in_bytes(p, values, sources, pooled, (uint8_t *)so_far);
        else
            largest_in_words(p, values, sources, pooled, so_far);
    }
    free(so_far);
    return 0;
}
