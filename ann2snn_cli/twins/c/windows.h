/* Layers that slide a window over their input: i are places of the input, o of the output, k taps of the kernel.
 * Input i reaches output o through tap k, along each axis, where
 *     i = o * stride - padding + k * dilation
 *     o = i * stride - padding + k * dilation    in a transposed convolution */

#ifndef WINDOWS_H
#define WINDOWS_H

#include "layers.h"

/* y[co][o] = sum of w[co][ci][k] * x[ci][i] over all i, k that reach o and the ci of co's group, within which ci
 * counts. Transposed: w[ci][co][k], and co counts within the group. */
void conv(const struct task *task, int64_t t);

/* y[c][o] = sum of x[c][i] over the i that reach o: the padding counts 0. */
void sum_pool(const struct task *task, int64_t t);

/* With n[i](t) = x[i](1) + ... + x[i](t), over the i that reach o:
 *     y[o](t) = max n[i](t) - max n[i](t - 1), the latter 0 at the first step */
void max_pool(const struct task *task);

#endif
