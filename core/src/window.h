/* What the kernels of every instruction set share about a window: how it is cut, and its block means. */
#ifndef WDT_WINDOW_H
#define WDT_WINDOW_H

#include "wdt_attention.h"

/* Where share `share` of n things begins, which is where the one before it ends. */
static inline ptrdiff_t wdt_share_begin(ptrdiff_t n, int share, int shares)
{
    const ptrdiff_t rest = n % shares;
    return n / shares * share + (share < rest ? share : rest);
}

/* means [blocks, D] of x [T, Hkv, D] at the window's key/value head, rows [first, last). Summed in token order, which
 * is the order in which a step sums them. The last block may be partial, and its mean is over the tokens it has. */
void wdt_mean_blocks(const wdt_window *window, const float *x, ptrdiff_t first, ptrdiff_t last, float *means);

/* The reverse: each token of dx [T, Hkv, D] gets its part of its block's d_means [blocks, D]. */
void wdt_spread_block_gradients(const wdt_window *window, const float *d_means, float *dx);

#endif
