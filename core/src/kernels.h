/* The tables of what an instruction set implements: two a set, chosen in kernels.c. Firmware runs streams alone, and links
 * the first of one set. */
#ifndef WDT_KERNEL_TABLE_H
#define WDT_KERNEL_TABLE_H

#include "attend.h"
#include "wdt_attention.h"
#include "wdt_kernels.h"

/* What a step and a model need. */
typedef struct wdt_kernels {
    const char *name;

    /* One position's queries q [heads, D] of one group -> out [heads, D]: the softmax over tokens and landmarks
     * together of q . key / sqrt(D), times their values. There is at least one candidate. out overlaps nothing. */
    void (*attend)(const float *q, int heads, int D, const wdt_rows *token_rows, const wdt_candidates *tokens,
                   const wdt_rows *landmark_rows, const wdt_candidates *landmarks, float *out);

    /* y [n, n_out] = x [n, n_in] W [n_in, n_out], or y + that where `add` is 1. W is a tensor of this dtype
     * (wdt_rvne.h): that of int8 begins with its scale, which results are multiplied with. y does not overlap x. */
    void (*product)(const float *x, int32_t n, const void *W, int dtype, int32_t n_in, int32_t n_out, int add, float *y);

    /* The same with the transpose of W [n_out, n_in]. */
    void (*product_transposed)(const float *x, int32_t n, const void *W, int dtype, int32_t n_in, int32_t n_out, int add,
                               float *y);

    /* half [n] = x [n], rounded to nearest even. */
    void (*to_half)(const float *x, ptrdiff_t n, uint16_t *half);

    /* wdt_first_unusable() */
    ptrdiff_t (*first_unusable)(const float *x, size_t n);
} wdt_kernels;

/* The window pass and its gradient, as wdt_attention.h has them, and the benchmark of wdt_kernels.h. */
typedef struct wdt_window_kernels {
    size_t (*prepared_bytes)(const wdt_head *head, ptrdiff_t T);
    size_t (*scratch_bytes)(const wdt_head *head, ptrdiff_t T);
    void (*prepare)(const wdt_window *window, int share, int shares);
    void (*attend)(const wdt_window *window, int share, int shares, void *scratch);
    size_t (*backward_bytes)(const wdt_head *head, ptrdiff_t T);
    void (*backward)(const wdt_window *window, const float *d_out, float *dq, float *dk, float *dv, void *scratch);
    double (*multiply_add)(int64_t rounds, float *sink);
} wdt_window_kernels;

/* What the sets without vectors have in common (scalar.c). */
void wdt_to_half(const float *x, ptrdiff_t n, uint16_t *half);
double wdt_multiply_add_plainly(int64_t rounds, float *sink);

extern const wdt_kernels wdt_kernels_scalar, wdt_kernels_portable, wdt_kernels_integer;
extern const wdt_window_kernels wdt_window_kernels_scalar, wdt_window_kernels_portable, wdt_window_kernels_integer;
#ifndef WDT_SCALAR
extern const wdt_kernels wdt_kernels_sse2, wdt_kernels_avx2, wdt_kernels_avx512, wdt_kernels_neon;
extern const wdt_window_kernels wdt_window_kernels_sse2, wdt_window_kernels_avx2, wdt_window_kernels_avx512,
    wdt_window_kernels_neon;
#endif

/* The tables in use. */
const wdt_kernels *wdt_kernels_in_use(void);
const wdt_window_kernels *wdt_window_kernels_in_use(void);

#endif
