/* The kernels of one instruction set; ../kernels.h says what each does. */
#ifndef WDT_TABLE_H
#define WDT_TABLE_H

#include "../kernels.h"
#include "vector.h"

size_t WDT_NAME(prepared_bytes)(const wdt_head *head, ptrdiff_t T);
size_t WDT_NAME(scratch_bytes)(const wdt_head *head, ptrdiff_t T);
void WDT_NAME(prepare)(const wdt_window *window, int share, int shares);
void WDT_NAME(attend_window)(const wdt_window *window, int share, int shares, void *scratch);
size_t WDT_NAME(backward_bytes)(const wdt_head *head, ptrdiff_t T);
void WDT_NAME(backward)(const wdt_window *window, const float *d_out, float *dq, float *dk, float *dv, void *scratch);
void WDT_NAME(attend)(const float *q, int heads, int D, const wdt_rows *token_rows, const wdt_candidates *tokens,
                      const wdt_rows *landmark_rows, const wdt_candidates *landmarks, float *out);
void WDT_NAME(product)(const float *x, int32_t n, const void *W, int dtype, int32_t n_in, int32_t n_out, int add, float *y);
void WDT_NAME(product_transposed)(const float *x, int32_t n, const void *W, int dtype, int32_t n_in, int32_t n_out,
                                  int add, float *y);
void WDT_NAME(to_half)(const float *x, ptrdiff_t n, uint16_t *half);

#endif
